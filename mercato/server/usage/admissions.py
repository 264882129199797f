"""Admissions: how many calls were let in, counted in Redis so that not even `kill -9` of this process loses one.

Each process tells its own total of a tenant and day, never a difference: `ZADD mercato:admitted:<day>:<tenant> GT
<total> <process>`. What is told twice, or late, or in another order changes nothing, so the totals can be told in two
ways at once: over a line on which nobody waits, before an answer leaves, and once a second with Redis's word for it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.server.usage.line import Line
from mercato.tenancy.usage import DAY_S, day_of

log = structlog.stdlib.get_logger(__name__)

KEPT_DAYS = 400
_KEPT_S = KEPT_DAYS * DAY_S
_BEAT_S = 1.0
_TIMEOUT_S = 2


class AdmissionCounter:
    """Counts the calls that this process let in, by tenant and day in UTC."""

    def __init__(self, redis: Redis, url: str) -> None:
        self._redis = redis
        self._line = Line(url)
        self._process = secrets.token_hex(6)
        self._days: dict[date, _Day] = {}
        self._today = _Day(date.min, 0, self._process)
        self._scheduled = False
        self._away = False
        self._beating: asyncio.Task[None] | None = None

    def count(self, tenant_id: int) -> float:
        """Count one call; return when, in seconds since 1970. It is told in the next turn of the event loop."""
        at = time.time()
        today = self._today
        if not today.begins_at <= at < today.ends_at:
            today = self._turn_to(at)
        today.totals[tenant_id] = today.totals.get(tenant_id, 0) + 1
        today.waiting.add(tenant_id)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._tick)
        return at

    def push(self) -> None:
        """Tell what was counted, now. An answer that leaves after this cannot be lost to the count."""
        today = self._today
        if today.waiting:
            self._line.send(b"".join([today.told(tenant_id) for tenant_id in today.waiting]))
            today.unconfirmed |= today.waiting
            today.waiting.clear()

    def start(self) -> None:
        """Begin to tell Redis the totals once a second."""
        self._beating = asyncio.create_task(self._beat(), name="mercato-admissions")

    async def stop(self) -> None:
        """Tell the last totals, and close the line."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        self.push()
        if any(day.unconfirmed for day in self._days.values()):
            await self.confirm()
        self._line.close()

    async def confirm(self) -> None:
        """Tell the totals that changed, and wait for Redis's word. While Redis is away they are kept."""
        self.push()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._open_line()
                for day in list(self._days.values()):
                    await self._confirm(day)
            self._away = False
        except (RedisError, OSError, TimeoutError) as error:
            if not self._away:
                log.warning("Redis is away: admissions are kept until it is back", error=type(error).__name__)
            self._away = True

    def _tick(self) -> None:
        self._scheduled = False
        self.push()

    def _turn_to(self, at: float) -> _Day:
        """Go on with the day of this time; what was counted on another one is told first."""
        self.push()
        today = day_of(at)
        self._today = self._days.setdefault(today, _Day(today, int(at) // DAY_S * DAY_S, self._process))
        return self._today

    async def _beat(self) -> None:
        while True:
            await self.confirm()
            await asyncio.sleep(_BEAT_S)

    async def _open_line(self) -> None:
        """Open the line where it is closed; a Redis that was away may have forgotten what it was told before."""
        if self._line.is_open():
            return
        await self._line.open()
        for day in self._days.values():
            day.unconfirmed |= day.totals.keys()

    async def _confirm(self, day: _Day) -> None:
        told, day.unconfirmed = day.unconfirmed, set()
        try:
            if told:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for tenant_id in told:
                        pipe.zadd(key := _key(day.day, tenant_id), {self._process: day.totals[tenant_id]}, gt=True)
                        pipe.expire(key, _KEPT_S)
                    await pipe.execute()
            elif day is not self._today:
                self._days.pop(day.day, None)
        except BaseException:
            day.unconfirmed |= told
            raise


class _Day:
    """One day of this process: its totals, those not told yet, and those that Redis has not confirmed."""

    __slots__ = ("_openings", "_process", "begins_at", "day", "ends_at", "totals", "unconfirmed", "waiting")

    def __init__(self, day: date, begins_at: int, process: str) -> None:
        self.day = day
        self.begins_at = begins_at
        self.ends_at = begins_at + DAY_S if begins_at else 0  # a day on which nothing falls, to begin with
        self.totals: dict[int, int] = {}
        self.waiting: set[int] = set()
        self.unconfirmed: set[int] = set()
        self._process = _bulk(process)
        self._openings: dict[int, bytes] = {}

    def told(self, tenant_id: int) -> bytes:
        """Return the command that tells a tenant's total, in the form in which it goes over the wire."""
        total = b"%d" % self.totals[tenant_id]
        opening = self._openings.get(tenant_id)
        if opening is not None:
            return b"%b$%d\r\n%b\r\n%b" % (opening, len(total), total, self._process)
        key = _bulk(_key(self.day, tenant_id))
        opening = self._openings[tenant_id] = b"*5\r\n" + _bulk("ZADD") + key + _bulk("GT")
        expire = b"*3\r\n" + _bulk("EXPIRE") + key + _bulk(str(_KEPT_S))
        return opening + _bulk(total.decode()) + self._process + expire


async def admitted_on(redis: Redis, tenant_id: int, days: Iterable[date]) -> dict[date, int]:
    """Return how many calls of a tenant were let in on these days in UTC, by all processes together.

    Raises `RedisError`, `OSError` or `TimeoutError`.
    """
    asked: Sequence[date] = list(days)
    async with asyncio.timeout(_TIMEOUT_S), redis.pipeline(transaction=False) as pipe:
        for day in asked:
            pipe.zrange(_key(day, tenant_id), 0, -1, withscores=True)
        found = await pipe.execute()
    return {day: sum(int(total) for _, total in told) for day, told in zip(asked, found, strict=True)}


def _key(day: date, tenant_id: int) -> str:
    return f"mercato:admitted:{day}:{tenant_id}"


def _bulk(text: str) -> bytes:
    encoded = text.encode()
    return b"$%d\r\n%b\r\n" % (len(encoded), encoded)
