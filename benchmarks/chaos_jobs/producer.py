"""The producer: asks for runs of one tenant in lots, at a steady pace, also while PostgreSQL is away."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from mercato_chaos.jobs import CHILDREN_FROM, Lot, alone, beget, count, stumble, wait
from sqlmodel import select

from benchmarks.chaos_jobs.outages import AWAY
from mercato import Job
from mercato.server.runtime import Runtime
from mercato.tenancy.access import Access

_KINDS: tuple[Job[..., Any], ...] = (count, stumble, count, wait, count, beget, count, count, alone, count)
_LOT = 25
_AGAIN_S = 0.2


class Producer:
    """Asks for so many effects. `expected` are their numbers and, where a run begets another, that one's too."""

    def __init__(self, runtime: Runtime, access: Access, numbers: range) -> None:
        self.access = access
        self.expected: set[int] = set()
        self.repeated = 0
        self._runtime = runtime
        self._numbers = numbers

    async def produce(self, seconds: float) -> None:
        """Ask for all, in so many seconds."""
        began, pace_s = time.monotonic(), seconds / max(1, len(self._numbers))
        for offset in range(0, len(self._numbers), _LOT):
            await asyncio.sleep(max(0.0, began + offset * pace_s - time.monotonic()))
            await self._ask_until_committed(self._numbers[offset : offset + _LOT])

    async def _ask_until_committed(self, numbers: range) -> None:
        has_failed = False
        while True:
            try:
                if not has_failed or not await self._is_committed(numbers[0]):
                    await self._ask(numbers)
            except AWAY:
                has_failed = True
                self.repeated += 1
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _is_committed(self, first: int) -> bool:
        """Whether a lot is there although its commit looked as if it had failed."""
        async with self._runtime.database.tenant(self.access.tenant.id, read_only=True) as db:
            return bool(await db.rows(select(Lot.id).where(Lot.first == first)))

    async def _ask(self, numbers: range) -> None:
        async with self._runtime.contexts.job(self.access, "chaos.producer", 0, 1) as ctx:
            ctx.db.session.add(Lot(first=numbers[0]))
            for number in numbers:
                kind = _KINDS[number % len(_KINDS)]
                await kind.enqueue(ctx, number=number)
                self.expected.add(number)
                if kind is beget:
                    self.expected.add(number + CHILDREN_FROM)
