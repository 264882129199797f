"""Running: the rows that this process has claimed, their leases, and who must be stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import asyncpg
import structlog

from mercato.tenancy import ledger_work
from mercato.tenancy.system_pool import SystemPool
from mercato.tools.context import Meter

log = structlog.stdlib.get_logger(__name__)

BEAT_S = 2.0
"""A quarter of a lease: three words may be lost."""
Why = Literal["cancelled", "lost", "stopped"]


@dataclass(slots=True, eq=False)
class Run:
    """A row that is being worked on. `why` says for what reason its task was cancelled, if it was.

    One that `is_closing` has come to its end, and is only written down: nobody stops it.
    """

    claimed: ledger_work.Claimed
    task: asyncio.Task[None] | None = None
    why: Why | None = None
    is_closing: bool = False
    meter: Meter | None = None
    clock: asyncio.Timeout | None = None

    def end(self, why: Why) -> None:
        """Cancel it."""
        if self.why is None and self.task is not None and not self.is_closing:
            self.why = why
            self.task.cancel()


@dataclass(slots=True, eq=False)
class Running:
    """What this process works on. Its leases are renewed together; a run whose lease is gone is cancelled."""

    pool: SystemPool
    worker: str
    runs: dict[int, Run] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, run: Run) -> None:
        """Look after a run from now on. An older attempt at the same row, which this process lost, ends."""
        if (older := self.runs.get(run.claimed.id)) is not None:
            older.end("lost")
        self.runs[run.claimed.id] = run

    def leave(self, run: Run) -> None:
        """Look after it no more; a younger attempt at the same row goes on."""
        if self.runs.get(run.claimed.id) is run:
            del self.runs[run.claimed.id]

    def look_now(self) -> None:
        """Renew at once: somebody wants a run to end, which may be one of these."""
        self._asked.set()

    def start(self) -> None:
        """Begin to renew."""
        self._task = asyncio.create_task(self._beat(), name="mercato-leases")

    async def stop(self) -> None:
        """Give back what is left, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left = list(self.runs)
        if left:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await ledger_work.release(self.pool, left, self.worker)

    async def renew(self) -> None:
        """Renew all leases. Raises what the database raises."""
        asked = dict(self.runs)
        if not asked:
            return
        renewed = {one.id: one for one in await ledger_work.renew(self.pool, list(asked), self.worker)}
        for job_id, run in asked.items():
            lease = renewed.get(job_id)
            if self.runs.get(job_id) is not run:
                continue  # it ended meanwhile
            if lease is None or lease.attempt != run.claimed.attempt:
                run.end("lost")
            elif lease.cancel_asked:
                run.end("cancelled")

    async def _beat(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._asked.wait()
            self._asked.clear()
            try:
                async with asyncio.timeout(ledger_work.LEASE_S / 2):
                    await self.renew()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("leases of jobs could not be renewed", runs=len(self.runs), error=type(error).__name__)
