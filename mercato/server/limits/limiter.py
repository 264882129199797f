"""The limiter: asks Redis, or what Redis has leased to this process, or, while Redis is away, itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.server.limits.budgets import Budgets
from mercato.server.limits.leases import Lease, Leases
from mercato.server.limits.local import LocalWindows
from mercato.server.limits.script import HeldUp
from mercato.server.limits.shared import Ask, SharedWindows
from mercato.server.limits.windows import WINDOW_S, Clock, Reached, Window

log = structlog.stdlib.get_logger(__name__)

_RETRY_S = 1
_PROBE = Window("probe", "", 1_000_000_000)

Answer = TypeVar("Answer")


class Limiter:
    """Lets calls through, or says which limit they reached. Nothing here ever waits for room.

    In Redis a limit is never exceeded, in any 60 seconds, whatever the number of replicas. While Redis is away each
    process counts for itself (`local`), so that as many times the limit may pass as there are processes.
    """

    def __init__(self, redis: Redis, *, window_s: float = WINDOW_S, clock: Clock | None = None) -> None:
        self._clock = clock or time.monotonic
        self._shared = SharedWindows(redis, window_s, clock)
        self._here = LocalWindows(window_s, self._clock)
        self._leases = Leases()
        self._leasing: set[str] = set()
        self._budgets = Budgets(redis)
        self._returning: asyncio.Task[None] | None = None
        self.local = False

    async def close(self) -> None:
        """Stop looking for Redis."""
        if self._returning is not None:
            self._returning.cancel()
            with suppress(asyncio.CancelledError):
                await self._returning

    def take_leased(self, windows: Sequence[Window]) -> bool:
        """Take one of each from what this process holds leased; or nothing, and return False."""
        return self._leases.take_all(windows, self._clock())

    async def take(self, windows: Sequence[Window]) -> Reached | None:
        """Take one of each: of what is leased, and of Redis in one round trip. Nothing is taken where one is full."""
        now = self._clock()
        leases = [(window, self._leases.take(window, now)) for window in windows]
        held = [lease for _, lease in leases if lease is not None]
        asked = [window for window, lease in leases if lease is None]
        passed = False
        try:
            reached = await self._ask(asked, now) if asked else None
            passed = reached is None
        finally:
            if not passed:
                for lease in held:
                    lease.left += 1
        return reached

    async def spend(self, tenant_id: int, day: str, cents: int, most: int) -> Reached | None:
        """Spend of the tenant's budget of a day, such as `2026-11-23`; or nothing where it would go over."""
        if cents < 0:
            raise ValueError("cents cannot be negative: what is spent does not come back")
        return await self._either(
            lambda: self._budgets.spend(tenant_id, day, cents, most),
            lambda: self._budgets.spend_here(tenant_id, day, cents, most),
        )

    async def spent(self, tenant_id: int, day: str) -> int:
        """Return what the tenant has spent of a day's budget, in cents."""
        return await self._either(
            lambda: self._budgets.spent(tenant_id, day), lambda: self._budgets.spent_here(tenant_id, day)
        )

    async def _ask(self, windows: Sequence[Window], now: float) -> Reached | None:
        return await self._either(lambda: self._ask_redis(windows, now), lambda: self._here.take(windows))

    async def _ask_redis(self, windows: Sequence[Window], now: float) -> Reached | None:
        """Ask for one of each, and for a lease of those that nobody else here is asking a lease of."""
        leasing = {window.place for window in windows} - self._leasing
        asks = [
            Ask(window, lease=True, back=self._leases.pop(window)) if window.place in leasing else Ask(window)
            for window in windows
        ]
        self._leasing |= leasing
        try:
            answer = await self._shared.take(asks, now)
        finally:
            self._leasing -= leasing
        if isinstance(answer, Reached):
            return answer
        self._keep(windows, answer)
        return None

    def _keep(self, windows: Sequence[Window], leases: Sequence[Lease]) -> None:
        for window, lease in zip(windows, leases, strict=True):
            if lease.left > 0:
                self._leases.put(window, lease)

    async def _either(self, shared: Callable[[], Awaitable[Answer]], here: Callable[[], Answer]) -> Answer:
        if not self.local:
            try:
                try:
                    return await shared()
                except HeldUp:  # whoever holds a process up must not get what it counts by itself
                    return await shared()
            except (RedisError, OSError, TimeoutError) as error:
                self._leave(error)
        return here()

    def _leave(self, error: Exception) -> None:
        if not self.local:  # of many calls at once, one says so
            self.local = True
            log.warning("limits are counted by this process alone: Redis is away", error=str(error) or repr(error))
            self._returning = asyncio.create_task(self._return(), name="mercato-limits")

    async def _return(self) -> None:
        while self.local:
            await asyncio.sleep(_RETRY_S)
            with suppress(RedisError, OSError, TimeoutError):
                await self._shared.take([Ask(_PROBE)], self._clock())  # a ping is answered by a Redis that is full, too
                await self._budgets.settle()
                self.local = False
        log.info("limits are counted in Redis again")
