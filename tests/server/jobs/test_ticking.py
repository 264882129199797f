"""Schedules in the ledger: each tick once, for each tenant by its own clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from mercato.plugins.jobs import job
from mercato.plugins.schedules import Schedule
from mercato.server.jobs.ticker import Ticker
from mercato.tenancy import ticks
from mercato.tenancy.connections import Connection


@job("probe.nightly", schedule=Schedule("30 2 * * *", "all"), each_tenant=True)
async def nightly(ctx) -> None:
    """Run each night."""


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


@pytest.fixture(autouse=True)
async def no_schedules(runtime):
    yield
    for table in ("ticks", "schedules"):
        await runtime.database.pool.fetch(f"delete from mercato.{table}")


async def test_five_workers_whose_looks_overlap_run_each_tick_once_over_a_change_of_the_clocks(
    runtime, new_tenant, stored
):
    zones = {
        "America/New_York": datetime(2026, 11, 1, tzinfo=UTC),
        "Europe/London": datetime(2026, 10, 25, tzinfo=UTC),
        "Australia/Lord_Howe": datetime(2026, 10, 4, tzinfo=UTC),
        "America/St_Johns": datetime(2026, 3, 8, tzinfo=UTC),
        "Pacific/Chatham": datetime(2026, 4, 5, tzinfo=UTC),
        "Africa/Casablanca": datetime(2026, 3, 22, tzinfo=UTC),
    }
    tenants = {zone: await new_tenant(runtime, timezone=zone) for zone in zones}
    for zone, change in zones.items():
        begin = change - timedelta(days=1, hours=12)
        workers = [Worker(runtime, nightly) for _ in range(5)]
        await workers[0].look(begin)
        for step in range(24):
            now = begin + timedelta(hours=3 * step + 3)
            skewed = [now + timedelta(seconds=2 * number - 4) for number in range(5)]
            await asyncio.gather(*(worker.look(at) for worker, at in zip(workers, skewed, strict=True)))
        expected = Schedule("30 2 * * *", "all").due(begin, begin + timedelta(hours=72), _zone(zone))
        assert await stored("probe.nightly", tenants[zone].id) == expected
        assert len(expected) == 3
        await runtime.database.pool.fetch("delete from mercato.ticks")
        await runtime.database.pool.fetch("delete from mercato.schedules")


def _zone(name):
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


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
