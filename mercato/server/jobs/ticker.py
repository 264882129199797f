"""Ticker: stores a run of each job that is due by the clock, once however many workers do this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from mercato.plugins.jobs import PRIORITIES, Job
from mercato.plugins.schedules import MOST_AT_ONCE
from mercato.tenancy.ledger import NewJob
from mercato.tenancy.system_pool import SystemPool
from mercato.tenancy.ticks import Clocked, Due, Turn, take_turn

log = structlog.stdlib.get_logger(__name__)

LOOK_S = 1.0
_AWAY_S = 2.0
LONGEST_S = 60.0
"""How long nobody looks at a schedule whose next tick is far: tenants come, and change their clocks."""


class Ticker:
    """Looks at every schedule of this process's jobs when its next tick is due."""

    def __init__(self, pool: SystemPool, jobs: Sequence[Job[..., Any]]) -> None:
        self._pool = pool
        self._jobs = [job for job in jobs if job.schedule is not None]
        self._next: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="mercato-ticker")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> int:
        """Store what is due of every schedule; return how many runs."""
        stored = 0
        for job in self._jobs:
            if self._next.get(job.name, 0.0) <= time.monotonic():
                stored += await take_turn(self._pool, job.name, partial(self._look, job))
        return stored

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
                await asyncio.sleep(LOOK_S)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("schedules wait for the database", error=type(error).__name__)
                await asyncio.sleep(_AWAY_S)

    async def _look(self, job: Job[..., Any], turn: Turn) -> int:
        schedule = job.schedule
        if schedule is None:
            return 0
        found, wait_s = [], LONGEST_S
        for clock in await _clocks(job, turn):
            zone, after = ZoneInfo(clock.timezone), clock.looked_until
            ticks = [] if after is None else schedule.due(after, turn.now, zone)
            if ticks or after is None:  # else there is nothing new to say
                is_whole = len(ticks) < MOST_AT_ONCE
                found.append(Due(clock.tenant_id, ticks, turn.now if is_whole else ticks[-1]))
                wait_s = wait_s if is_whole else 0
            follows = schedule.next(turn.now, zone)
            if follows is not None:
                wait_s = min(wait_s, (follows - turn.now).total_seconds())
        stored = 0
        if found:
            stored = await turn.store(found, _new(job))
        self._next[job.name] = time.monotonic() + wait_s
        return stored


async def _clocks(job: Job[..., Any], turn: Turn) -> list[Clocked]:
    if job.each_tenant:
        return await turn.tenant_clocks(requires=job.requires, categories=job.categories)
    return await turn.own_clock()


def _new(job: Job[..., Any]) -> NewJob:
    return NewJob(
        name=job.name,
        version=job.version,
        payload=job.dump({}),
        attempts=job.retries.attempts,
        priority=PRIORITIES[job.priority],
    )
