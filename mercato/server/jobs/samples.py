"""Samples: what the ledger holds, read when somebody looks, and not again for some seconds however many look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import asyncpg
import structlog

from mercato.plugins.jobs import Job
from mercato.server.jobs.limits import limits_of
from mercato.tenancy.job_backlog import Backlog, count_dead, read_backlog, read_oldest_due
from mercato.tenancy.system_pool import SystemPool

log = structlog.stdlib.get_logger(__name__)

BACKLOG_S, DEAD_S = 10.0, 60.0
BEHIND_S = 60.0
"""What has been due for so long should have begun."""
_PATIENCE_S = 2.0
Value = TypeVar("Value")


class Sampled(Generic[Value]):
    """A figure of the database. Those who look at the same time share one reading."""

    def __init__(self, read: Callable[[], Awaitable[Value]], every_s: float) -> None:
        self._read = read
        self._every_s = every_s
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self.value: Value | None = None
        """None where it was not read yet, or could not be."""

    async def look(self) -> Value | None:
        """Return it, read anew where it is old."""
        async with self._reading:
            if time.monotonic() - self._read_at >= self._every_s:
                self.value = await self._sample()
                self._read_at = time.monotonic()
        return self.value

    async def _sample(self) -> Value | None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._read()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            log.warning("the ledger of jobs cannot be looked at", error=type(error).__name__)
            return None


class JobSamples:
    """What waits, runs and is dead, of all tenants; `jobs` are those that this process knows."""

    def __init__(self, pool: SystemPool, jobs: Callable[[], Sequence[Job[..., Any]]]) -> None:
        self.backlog: Sampled[Sequence[Backlog]] = Sampled(partial(read_backlog, pool), BACKLOG_S)
        self.dead: Sampled[Mapping[str, int]] = Sampled(partial(count_dead, pool), DEAD_S)
        self._oldest_due_s: Sampled[float] = Sampled(partial(_oldest_due_s, pool, jobs), BACKLOG_S)

    async def refresh(self) -> None:
        """Look at everything."""
        await self.backlog.look()
        await self.dead.look()

    def of(self, figure: str) -> dict[str, float]:
        """Return one figure of the backlog by job, as it was read last."""
        return {one.name: float(getattr(one, figure)) for one in self.backlog.value or ()}

    async def oldest_due_s(self) -> float | None:
        """Return for how long the oldest run that could begin has been waiting; None where that is not known."""
        return await self._oldest_due_s.look()


async def _oldest_due_s(pool: SystemPool, jobs: Callable[[], Sequence[Job[..., Any]]]) -> float:
    known = jobs()
    return await read_oldest_due(pool, [job.name for job in known], limits_of(known).values())
