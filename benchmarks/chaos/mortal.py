"""A mortal: a process that is killed at most once, or ended, and known to have died by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

_READY_S, _END_S = 90, 30


class Running(Protocol):
    """A process that runs, or ran."""

    @property
    def returncode(self) -> int | None:
        """What it ended with; None while it runs."""

    def kill(self) -> None:
        """Have it end at once. Raises `ProcessLookupError` where it is gone, or nothing."""

    def terminate(self) -> None:
        """Have it end in its own way."""

    async def line(self) -> bytes:
        """Return the next line that it says; nothing where it says no more."""

    async def wait(self) -> None:
        """Wait until it is gone."""


class Mortal:
    """One process, which says in a line of JSON that it is ready. Who comes after one that was killed is another."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.is_ready = False
        self.killed_at: float | None = None
        self.said: dict[str, Any] = {}
        self._is_to_end = False
        self._command = command
        self._environment = environment
        self._log = log
        self._process: Running | None = None

    async def start(self) -> None:
        """Start it, and wait until it is ready. Raises `RuntimeError`."""
        self._process = await self._launch(self._command, self._environment, self._log)
        async with asyncio.timeout(_READY_S):
            if not (line := await self._process.line()):
                await self._process.wait()
                raise RuntimeError(f"a process did not start: {self._log.read_text(errors='replace')[-1_000:]}")
        self.said = json.loads(line)
        self.is_ready = True

    async def _launch(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Running:
        with log.open("ab") as errors:
            return _Started(
                await asyncio.create_subprocess_exec(
                    *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment
                )
            )

    async def kill(self) -> None:
        """End it as a power cut would; return when it is gone."""
        assert self._process is not None
        self.is_ready, self._is_to_end, self.killed_at = False, True, time.monotonic()
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """End it as an operator would."""
        if self._process is None or self._process.returncode is not None:
            return
        self._is_to_end = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def has_crashed(self) -> bool:
        """Whether it ended without anybody having ended it."""
        return self._process is not None and self._process.returncode is not None and not self._is_to_end


class _Started:
    """A process that asyncio started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def wait(self) -> None:
        await self._process.wait()
