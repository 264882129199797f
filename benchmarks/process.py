"""Processes under measurement: pinned to a core, told apart from their children, and always ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

READY_S = 90
END_S = 20
SETTLE_S = 30
_STILL_S = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """Return the core of the servers and the core of everything else; they are one where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def pinned(cores: Set[int]) -> Iterator[None]:
    """Pin this process, and with it whatever it starts meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A program that says in one line of JSON when it is ready. What it logs goes to a file, as an operator's would."""

    def __init__(self, command: Sequence[str], *, cores: Set[int], log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._said: dict[str, Any] = {}
        self.began = time.perf_counter()
        with log.open("wb") as errors, pinned(cores):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ready(self, timeout_s: float = READY_S) -> dict[str, Any]:
        """Wait for the line and return it. Raises `RuntimeError` with the last words of a program that failed."""
        if self._said:
            return self._said
        stdout, line = self._process.stdout, b""
        assert stdout is not None
        deadline = time.monotonic() + timeout_s
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                raise RuntimeError(f"a server was not ready within {timeout_s:g} s: {self.last_words()}")
            if not (more := os.read(stdout.fileno(), 65_536)):
                raise RuntimeError(f"a server ended before it was ready: {self.last_words()}")
            line += more
        self._said = json.loads(line)
        return self._said

    def port(self) -> int:
        """Wait until it is ready and return the port that it listens on."""
        said = self.ready()
        return int(said["port"] if "port" in said else said["url"].rpartition(":")[2].partition("/")[0])

    def last_words(self) -> str:
        """Return the end of what it logged."""
        return self._log.read_text(errors="replace")[-1_000:].strip()

    def cpu_s(self) -> float:
        """Return the CPU time of the program and all its children, in seconds."""
        return sum(_cpu_ticks(pid) for pid in self._tree()) / _TICKS

    def settle(self, at_most_s: float = SETTLE_S) -> None:
        """Wait until it stands still: until it has used next to no CPU for a moment."""
        end = time.monotonic() + at_most_s
        while time.monotonic() < end:
            before = self.cpu_s()
            time.sleep(_STILL_S)
            if self.cpu_s() - before <= _STILL_S / 10:
                return

    def rss_mb(self) -> float:
        """Return the memory that is resident, in megabytes; what processes share is counted for each."""
        return sum(_status_kb(pid, "VmRSS") for pid in self._tree()) / 1024

    def stop(self) -> None:
        """End it and its children."""
        tree = self._tree()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in tree[1:]:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _tree(self) -> list[int]:
        if self._process.poll() is not None:
            return [self._process.pid]
        tree = [self._process.pid]
        for pid in tree:
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    tree += [int(child) for child in (task / "children").read_text().split()]
        return tree


def _cpu_ticks(pid: int) -> int:
    """Return user and system time, also of children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


def _status_kb(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
