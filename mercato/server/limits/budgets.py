"""Budgets: what a tenant may spend in a day, in cents. What is spent while Redis is away, it hears of afterwards."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from redis.asyncio import Redis

from mercato.server.limits.script import Script
from mercato.server.limits.windows import Reached
from mercato.tenancy.limits import BUDGET
from mercato.tenancy.rows import utc_now

_DAY_S = 86_400
_KEPT_S = 3 * _DAY_S
_MOST_KEPT = 10_000


@dataclass(slots=True)
class _Spent:
    """What this process knows of a day: all that was spent, and what of it Redis has not heard of yet."""

    cents: int = 0
    owed: int = 0


class Budgets:
    """Spends of a tenant's day, or nothing where it would go over.

    A day is a date, as `2026-11-23`. `retry_after_s` takes it for one in UTC; who knows the tenant's zone knows better.
    """

    def __init__(self, redis: Redis) -> None:
        self._spend = Script(redis, "spend.lua")
        self._known: OrderedDict[str, _Spent] = OrderedDict()

    async def spend(self, tenant_id: int, day: str, cents: int, most: int) -> Reached | None:
        """Spend by the count in Redis."""
        spent = self._of(_key(tenant_id, day))
        goes, spent.cents, now_s = await self._spend([_key(tenant_id, day)], cents, most, 0, _KEPT_S)
        return None if goes else _reached(tenant_id, day, most, datetime.fromtimestamp(now_s, UTC))

    def spend_here(self, tenant_id: int, day: str, cents: int, most: int) -> Reached | None:
        """Spend by what this process knows: what Redis said last, and what was spent here since."""
        spent = self._of(_key(tenant_id, day))
        if spent.cents + cents > most:
            return _reached(tenant_id, day, most, utc_now())
        spent.cents += cents
        spent.owed += cents
        return None

    async def spent(self, tenant_id: int, day: str) -> int:
        """Return what was spent, by the count in Redis."""
        _, spent, _ = await self._spend([_key(tenant_id, day)], 0, 0, 0, _KEPT_S)
        return spent

    def spent_here(self, tenant_id: int, day: str) -> int:
        """Return what was spent, as far as this process knows."""
        return self._of(_key(tenant_id, day)).cents

    async def settle(self) -> None:
        """Tell Redis what was spent while it was away, and meanwhile."""
        while owing := [(key, spent) for key, spent in self._known.items() if spent.owed]:
            for key, spent in owing:
                owed = spent.owed
                _, told, _ = await self._spend([key], 0, 0, owed, _KEPT_S)
                spent.owed -= owed
                spent.cents = told + spent.owed

    def _of(self, key: str) -> _Spent:
        spent = self._known.pop(key, None) or _Spent()
        self._known[key] = spent
        if len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        return spent


def _reached(tenant_id: int, day: str, most: int, now: datetime) -> Reached:
    tomorrow = datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(), UTC)
    wait_s = math.ceil((tomorrow - now).total_seconds())
    return Reached(BUDGET, str(tenant_id), most, _DAY_S, max(1, wait_s))


def _key(tenant_id: int, day: str) -> str:
    return f"mercato:spent:{tenant_id}:{day}"
