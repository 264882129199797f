"""The crew: workers of which a random one is killed every so often, and another begins in its place."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.chaos_jobs.fork import Fork

_AGAIN_S, _LOOK_S = 0.5, 0.05
Bury = Callable[[str, float], Awaitable[None]]
"""Told of every worker that was killed: its name in the ledger, and when that was."""


class Crew:
    """So many workers. One that cannot begin, because an engine is away, is begun again, as a supervisor would."""

    def __init__(self, size: int, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.workers: list[Fork] = []
        self.killed = 0
        self.repeated_starts = 0
        self.starts_s: list[float] = []
        self._size = size
        self._command = command
        self._environment = environment
        self._log = log
        self._starting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start all."""
        await asyncio.gather(*(self._add() for _ in range(self._size)))

    async def kill_every(self, seconds: float, chance: random.Random, bury: Bury) -> None:
        """Kill a random one every so often, until this is cancelled; wait where most are only beginning."""
        due = time.monotonic() + seconds
        while True:
            await asyncio.sleep(_LOOK_S)
            ready = [worker for worker in self.workers if worker.is_ready]
            if time.monotonic() >= due and len(ready) > self._size // 2:
                due = time.monotonic() + seconds
                await self._replace(chance.choice(ready), bury)

    async def stop(self) -> None:
        """End all."""
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    @property
    def crashed(self) -> int:
        """How many ended by themselves, once they worked."""
        return sum(worker.is_ready and worker.has_crashed for worker in self.workers)

    async def _replace(self, victim: Fork, bury: Bury) -> None:
        killed_at = time.monotonic()
        await victim.kill()
        self.killed += 1
        self.workers.remove(victim)
        task = asyncio.create_task(self._add())
        self._starting.add(task)
        await bury(victim.said["worker"], killed_at)

    async def _add(self) -> None:
        while True:
            worker, began = Fork(self._command, self._environment, self._log), time.monotonic()
            self.workers.append(worker)
            try:
                await worker.start()
            except RuntimeError:
                self.workers.remove(worker)
                self.repeated_starts += 1
                await asyncio.sleep(_AGAIN_S)
            else:
                self.starts_s.append(time.monotonic() - began)
                return
