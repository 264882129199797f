"""Schedules in the ledger: each tick once, for each tenant by its own clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from mercato.plugins.jobs import job
from mercato.plugins.schedules import Schedule
from mercato.server.jobs.ticker import Ticker
from mercato.tenancy import ticks
from mercato.tenancy.connections import Connection
from mercato.tenancy.grants import disable_category, enable_category
from mercato.tenancy.rows import utc_now
from mercato.tenancy.tenants import TenantRecord


@job("probe.nightly", schedule=Schedule("30 2 * * *", "all"), each_tenant=True)
async def nightly(ctx) -> None:
    """Run each night."""


@job("probe.nightly_once", schedule=Schedule("30 2 * * *", "once"), each_tenant=True)
async def nightly_once(ctx) -> None:
    """Run each night, once for all that were missed."""


@job("probe.nightly_skip", schedule=Schedule("30 2 * * *", "skip"), each_tenant=True)
async def nightly_skip(ctx) -> None:
    """Run each night that is not missed."""


NIGHTLY = [nightly, nightly_once, nightly_skip]


@job("probe.hourly", schedule=Schedule("0 * * * *", "all"))
async def hourly(ctx) -> None:
    """Run each hour, for the deployment."""


@job("probe.with_shop", schedule=Schedule("0 * * * *", "all"), each_tenant=True, requires=("shopify",))
async def with_shop(ctx) -> None:
    """Run for those who have a shop."""


class Worker:
    """One of several, whose look is made at a time that the test says, as the database would."""

    def __init__(self, runtime, *jobs):
        self.pool = runtime.database.pool
        self.jobs = jobs
        self.ticker = Ticker(self.pool, jobs)

    async def look(self, now):
        for one in self.jobs:

            async def at(turn, one=one):
                turn.now = now
                return await self.ticker._look(one, turn)

            await ticks.take_turn(self.pool, one.name, at)


@pytest.fixture
def stored(runtime):
    """The ticks of a job, by tenant, in order; and that each has its run."""

    async def read(name, tenant_id=0):
        rows = await runtime.database.pool.fetch(
            "select tick, jobs.id from mercato.ticks"
            " left join mercato.jobs on jobs.id = job_id and jobs.name = ticks.name"
            " where ticks.name = $1 and ticks.tenant_id = $2 order by tick",
            name,
            tenant_id,
        )
        assert all(row["id"] is not None for row in rows)
        return [row["tick"] for row in rows]

    return read


@pytest.fixture
def forget(runtime):
    """Forget all schedules, and let the tenants go that had some."""

    async def tables():
        async with runtime.database.system() as session:
            await session.exec(sa.update(TenantRecord).values(removed_at=utc_now()))
        for table in ("ticks", "schedules"):
            await runtime.database.pool.fetch(f"delete from mercato.{table}")

    return tables


@pytest.fixture(autouse=True)
async def no_schedules(forget):
    yield
    await forget()


CHANGES = {
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Europe/London": ("2026-03-29", "2026-10-25"),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),
    "America/St_Johns": ("2026-03-08", "2026-11-01"),
    "Pacific/Chatham": ("2026-09-27", "2026-04-05"),
    "Africa/Casablanca": ("2026-03-22", "2026-02-15"),
}
"""The days in 2026 on which the clocks are put forward, and back."""


def _look_times(begin, ticks):
    """Whenever something is due, and in the end; and again soon: who looks while another does sees nothing."""
    return [at + timedelta(seconds=wait) for at in (*ticks, begin + timedelta(hours=72)) for wait in (0, 10)]


@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "back"])
@pytest.mark.parametrize("nightly", NIGHTLY, ids=lambda job: job.schedule.catch_up)
async def test_five_workers_with_skewed_clocks_run_each_tick_once_over_a_change_of_the_clocks_in_six_zones(
    runtime, new_tenant, stored, forget, nightly, direction
):
    for zone, changes in CHANGES.items():
        tenant = await new_tenant(runtime, timezone=zone)
        begin = datetime.fromisoformat(changes[direction]).replace(tzinfo=UTC) - timedelta(hours=36)
        every = Schedule(nightly.schedule.cron, "all")
        expected = every.due(begin, begin + timedelta(hours=72), ZoneInfo(zone))
        workers = [Worker(runtime, nightly) for _ in range(5)]
        await workers[0].look(begin)
        for now in _look_times(begin, expected):
            skewed = [now + timedelta(seconds=2 * number - 4) for number in range(5)]
            await asyncio.gather(*(worker.look(at) for worker, at in zip(workers, skewed, strict=True)))
        assert await stored(nightly.name, tenant.id) == expected
        assert len({tick.astimezone(ZoneInfo(zone)).date() for tick in expected}) == len(expected) == 3
        await forget()


@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "back"])
@pytest.mark.parametrize("nightly", NIGHTLY, ids=lambda job: job.schedule.catch_up)
async def test_what_was_missed_over_a_change_of_the_clocks_is_caught_up_with_by_one_of_five_workers(
    runtime, new_tenant, stored, forget, nightly, direction
):
    for zone, changes in CHANGES.items():
        tenant = await new_tenant(runtime, timezone=zone)
        begin = datetime.fromisoformat(changes[direction]).replace(tzinfo=UTC) - timedelta(hours=36)
        missed = Schedule(nightly.schedule.cron, "all").due(begin, begin + timedelta(hours=72), ZoneInfo(zone))
        workers = [Worker(runtime, nightly) for _ in range(5)]
        await workers[0].look(begin)
        back = begin + timedelta(hours=72, minutes=7)
        await asyncio.gather(*(worker.look(back + timedelta(seconds=2 * n)) for n, worker in enumerate(workers)))
        expected = {"skip": [], "once": missed[-1:], "all": missed}[nightly.schedule.catch_up]
        assert await stored(nightly.name, tenant.id) == expected
        await forget()


async def test_a_schedule_begins_when_it_is_first_seen_and_misses_nothing_after(runtime, stored):
    worker, begin = Worker(runtime, hourly), datetime(2026, 5, 1, 10, 30, tzinfo=UTC)
    await worker.look(begin)
    assert await stored("probe.hourly") == []
    await worker.look(begin + timedelta(hours=3))
    assert await stored("probe.hourly") == [datetime(2026, 5, 1, hour, tzinfo=UTC) for hour in (11, 12, 13)]


async def test_a_schedule_that_needs_a_connection_runs_for_those_who_have_it(runtime, new_tenant, stored):
    shop, none = await new_tenant(runtime), await new_tenant(runtime)
    async with runtime.database.tenant(shop.id) as db:
        db.session.add(Connection(integration="shopify", account="a.myshopify.com", settings={}, sealed=b"-"))
    worker, begin = Worker(runtime, with_shop), datetime(2026, 5, 1, 10, 30, tzinfo=UTC)
    for hours in (0, 1):
        await worker.look(begin + timedelta(hours=hours))
    assert len(await stored("probe.with_shop", shop.id)) == 1
    assert await stored("probe.with_shop", none.id) == []


async def test_a_schedule_runs_for_tenants_that_have_a_category_of_its_plugin_on(runtime, new_tenant, stored):
    acme, globex = await new_tenant(runtime), await new_tenant(runtime)
    worker, begin = Worker(runtime, replace(nightly, categories=("other", "probe"))), datetime(2026, 5, 1, tzinfo=UTC)
    await worker.look(begin)
    async with runtime.database.tenant(globex.id) as db:
        await disable_category(db, "probe")
    await worker.look(begin + timedelta(days=2))
    assert len(await stored("probe.nightly", acme.id)) == 2
    assert await stored("probe.nightly", globex.id) == []
    async with runtime.database.tenant(globex.id) as db:
        await enable_category(db, "probe")
    await worker.look(begin + timedelta(days=3))
    assert len(await stored("probe.nightly", acme.id)) == len(await stored("probe.nightly", globex.id)) == 3


@pytest.mark.parametrize("whole", [False, True])
async def test_a_schedule_can_be_paused_for_a_tenant_or_for_all(runtime, new_tenant, stored, whole):
    paused, other = await new_tenant(runtime), await new_tenant(runtime)
    worker, begin = Worker(runtime, nightly), datetime(2026, 5, 1, 10, 30, tzinfo=UTC)
    await worker.look(begin)
    pause = partial(ticks.pause, runtime.database.pool, "probe.nightly", 0 if whole else paused.id)
    await pause(paused=True)
    await worker.look(begin + timedelta(days=1))
    assert await stored("probe.nightly", paused.id) == []
    assert len(await stored("probe.nightly", other.id)) == (0 if whole else 1)
    await pause(paused=False)
    await worker.look(begin + timedelta(days=2))
    assert len(await stored("probe.nightly", paused.id)) == 2
    assert len(await stored("probe.nightly", other.id)) == 2
