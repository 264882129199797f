"""The wake: what killed workers had in hand, and how long it took until somebody went on with it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.chaos_jobs.outages import AWAY
from mercato.tenancy.system_pool import SystemPool

_LOOK_S = 0.1
_HELD = "select id, attempt from mercato.jobs where worker = $1 and state = 'running'"
_FATE = """
    select jobs.id, jobs.attempt, jobs.state from mercato.jobs
    join unnest($1::bigint[]) as lost (id) on lost.id = jobs.id
"""


@dataclass(frozen=True, slots=True)
class Lost:
    """A run that a worker had when it was killed."""

    run_id: int
    attempt: int
    killed_at: float


class Wake:
    """Looks ten times a second at the runs that were lost."""

    def __init__(self, pool: SystemPool) -> None:
        self.taken_back_s: dict[int, float] = {}
        self.restarts_s: list[float] = []
        self._pool = pool
        self._lost: dict[int, Lost] = {}

    @property
    def waiting(self) -> list[Lost]:
        """What nobody has gone on with."""
        return list(self._lost.values())

    async def bury(self, worker: str, killed_at: float) -> None:
        """Note what a worker had, once the database can be asked."""
        while True:
            try:
                rows = await self._pool.fetch(_HELD, worker)
            except AWAY:
                await asyncio.sleep(_LOOK_S)
            else:
                self._lost |= {run_id: Lost(run_id, attempt, killed_at) for run_id, attempt in rows}
                return

    async def watch(self) -> None:
        """Look until this is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.look()
            except AWAY:
                continue

    async def look(self) -> None:
        """See what has been gone on with. What had ended after all, by a commit that was under way, was not lost."""
        for run_id, attempt, state in await self._pool.fetch(_FATE, list(self._lost)):
            lost = self._lost[run_id]
            if state == "retrying" or attempt > lost.attempt:
                self.taken_back_s.setdefault(run_id, time.monotonic() - lost.killed_at)
            if attempt > lost.attempt:
                self.restarts_s.append(time.monotonic() - lost.killed_at)
            if attempt > lost.attempt or state in ("done", "cancelled", "dead"):
                del self._lost[run_id]
