"""What a tenant spends in a day."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from mercato.server.limits import Limiter, Reached
from mercato.server.limits import budgets as module
from mercato.server.runtime import Runtime
from tests.server.limits.conftest import Line
from tests.server.limits.test_outages import back

TODAY = datetime.now(UTC).date().isoformat()
_tenants = itertools.count(1_000_000)


@pytest.fixture
def tenant_id() -> int:
    return next(_tenants)


async def test_what_is_spent_adds_up_over_replicas_to_the_cent_and_never_goes_over(runtime: Runtime, tenant_id: int):
    one, other = Limiter(runtime.redis), Limiter(runtime.redis)
    passed: list[int] = []

    async def spend(replica: Limiter, cents: int) -> None:
        if await replica.spend(tenant_id, TODAY, cents, 500) is None:
            passed.append(cents)

    async with anyio.create_task_group() as group:
        for number in range(1, 60):
            group.start_soon(spend, (one, other)[number % 2], number)
    assert sum(passed) <= 500
    assert await one.spent(tenant_id, TODAY) == await other.spent(tenant_id, TODAY) == sum(passed)
    assert await one.spend(tenant_id, TODAY, 500 - sum(passed), 500) is None


async def test_what_would_go_over_takes_nothing_and_is_refused_until_the_day_ends(limiter: Limiter, tenant_id: int):
    assert await limiter.spend(tenant_id, TODAY, 400, 500) is None
    reached = await limiter.spend(tenant_id, TODAY, 101, 500)
    assert isinstance(reached, Reached)
    assert (reached.limit, reached.whose, reached.most, reached.window_s) == (
        "cents_per_day",
        str(tenant_id),
        500,
        86_400,
    )
    assert 1 <= reached.retry_after_s <= 86_400
    assert await limiter.spent(tenant_id, TODAY) == 400
    assert await limiter.spend(tenant_id, TODAY, 100, 500) is None


async def test_tenants_and_days_have_budgets_of_their_own(limiter: Limiter, tenant_id: int):
    tomorrow = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()
    await limiter.spend(tenant_id, TODAY, 500, 500)
    assert await limiter.spend(tenant_id, tomorrow, 500, 500) is None
    assert await limiter.spend(tenant_id * 10, TODAY, 500, 500) is None
    assert await limiter.spent(tenant_id * 100, TODAY) == 0


async def test_a_budget_is_forgotten_some_days_later(limiter: Limiter, runtime: Runtime, tenant_id: int):
    await limiter.spend(tenant_id, TODAY, 1, 500)
    assert 2 * 86_400 < await runtime.redis.ttl(f"mercato:spent:{tenant_id}:{TODAY}") <= 3 * 86_400


async def test_nothing_comes_back_by_spending_less_than_nothing(limiter: Limiter, tenant_id: int):
    with pytest.raises(ValueError, match="negative"):
        await limiter.spend(tenant_id, TODAY, -1, 500)


async def test_during_an_outage_the_budget_goes_on_from_what_was_heard_last(
    line: Line, remote: Limiter, limiter: Limiter, tenant_id: int
):
    await limiter.spend(tenant_id, TODAY, 100, 500)
    await remote.spend(tenant_id, TODAY, 100, 500)
    await line.cut()
    assert await remote.spend(tenant_id, TODAY, 300, 500) is None
    assert remote.local
    assert isinstance(await remote.spend(tenant_id, TODAY, 1, 500), Reached)
    assert await remote.spent(tenant_id, TODAY) == 500


async def test_what_was_spent_during_an_outage_is_told_to_redis_afterwards(
    line: Line, remote: Limiter, limiter: Limiter, tenant_id: int
):
    await remote.spend(tenant_id, TODAY, 100, 500)
    await line.cut()
    await remote.spend(tenant_id, TODAY, 250, 500)
    await limiter.spend(tenant_id, TODAY, 200, 500)
    line.mend()
    await back(remote)
    assert await limiter.spent(tenant_id, TODAY) == await remote.spent(tenant_id, TODAY) == 550
    assert isinstance(await limiter.spend(tenant_id, TODAY, 1, 500), Reached)


async def test_what_a_process_knows_is_bounded(limiter: Limiter, tenant_id: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOST_KEPT", 3)
    for number in range(8):
        await limiter.spend(tenant_id, f"2026-11-{number + 10}", 1, 500)
    assert len(limiter._budgets._known) == 3
