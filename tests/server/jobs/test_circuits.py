"""Circuits: an outside service that is away holds its runs back, and costs them no attempt."""

from __future__ import annotations

import asyncio

import anyio
import pytest
import sqlalchemy as sa
from sqlmodel import select

from mercato.server.metrics import Metrics
from mercato.server.stored_gauges import StoredGauges
from mercato.tenancy import circuits, ledger_choosing
from mercato.tenancy.circuits import Circuit
from tests.server.jobs import partner as partner_module
from tests.server.jobs import probe
from tests.server.jobs.partner import OUTAGES, ask, ask_elsewhere, ask_slowly, tell


@pytest.fixture
async def partner(runtime):
    await runtime.database.pool.fetch("delete from mercato.circuits")
    partner_module.partner.__init__()
    yield partner_module.partner
    await runtime.database.pool.fetch("delete from mercato.circuits")


@pytest.fixture
def pass_pause(runtime):
    """Let the pause of every circuit be over, and what was put off be due."""

    async def go_on():
        pool = runtime.database.pool
        await pool.fetch("update mercato.circuits set open_until = now() where open_until is not null")
        waiting = "state in ('queued', 'retrying')"
        await pool.fetch(f"update mercato.jobs set due_at = now(), rung_until = null where {waiting}")

    return go_on


@pytest.fixture
def opened(runtime):
    async def read():
        return [(one.tenant_id, one.integration) for one in await circuits.read_opened(runtime.database.pool)]

    return read


async def test_an_outage_costs_one_tenant_a_few_attempts_in_all_and_afterwards_every_run_is_done(
    here, acme, enqueue, read, partner, pass_pause
):
    partner.failure = "refused"
    ids = [await enqueue(acme, job, number=number) for number in range(10) for job in (ask, tell)]
    for _ in range(30):  # much longer than any of them has attempts
        await here.run_all()
        await pass_pause()
    spent = [(await read(acme, run_id)).attempt for run_id in ids]
    assert sum(spent) == circuits.MOST_OUTAGES - 1
    assert len(partner.calls) == circuits.MOST_OUTAGES + 29  # one trial after each pause
    partner.failure = None
    await here.run_all()
    await pass_pause()
    await here.run_all()
    assert {(await read(acme, run_id)).state for run_id in ids} == {"done"}


async def test_other_tenants_and_other_services_go_on_while_a_circuit_is_open(
    here, acme, globex, enqueue, read, partner, opened
):
    partner.failure = "503"
    held = [await enqueue(acme, ask, number=number) for number in range(5)]
    await here.run_all()
    assert await opened() == [(acme.id, "partner")]
    partner.failure = None
    before = len(partner.calls)
    free = [
        (acme, await enqueue(acme, probe.note, word="free")),
        (acme, await enqueue(acme, ask_elsewhere)),
        (globex, await enqueue(globex, ask)),
    ]
    await here.run_all()
    assert [(await read(tenant, run_id)).state for tenant, run_id in free] == ["done"] * 3
    assert partner.calls[before:] == [(globex.slug, 0)]
    assert {(await read(acme, run_id)).state for run_id in held} == {"queued", "retrying"}


async def test_after_the_pause_one_run_is_tried_and_its_success_lets_all_others_run(
    here, there, acme, enqueue, read, partner, pass_pause, opened
):
    partner.failure = "slow"
    ids = [await enqueue(acme, job, number=number) for number in range(4) for job in (ask, tell)]
    await here.run_all()
    partner.failure, partner.held = None, asyncio.Event()
    partner.called.clear()
    before = len(partner.calls)
    await pass_pause()
    rung = await here.service.relay.ring()
    assert rung > 1
    async with asyncio.TaskGroup() as tasks:
        for worker in (here, there):  # all of them at once, by two workers
            for run_id in ids:
                tasks.create_task(worker.service.runner.handle(run_id))
        await partner.called.wait()
        while sum([(await read(acme, run_id)).state == "running" for run_id in ids]) < 1:
            await asyncio.sleep(0.01)
        assert await there.run_all() == 0
        assert len(partner.calls) == before + 1
        partner.held.set()
    assert await opened() == []
    partner.held = None
    await pass_pause()
    await here.run_all()
    assert {(await read(acme, run_id)).state for run_id in ids} == {"done"}


async def test_a_trial_whose_worker_died_does_not_keep_the_circuit_open(
    runtime, here, acme, enqueue, read, partner, pass_pause
):
    partner.failure = "refused"
    ids = [await enqueue(acme, ask, number=number) for number in range(4)]
    await here.run_all()
    partner.failure = None
    await pass_pause()
    claimed = await here.service.runner._claim(ids)
    assert sum(one is not None for one in claimed) == 1
    assert await here.run_all() == 0
    await runtime.database.pool.fetch(
        "update mercato.jobs set state = 'queued', lease_until = null, worker = null, rung_until = null"
        " where state = 'running'"
    )
    await pass_pause()
    await here.run_all()
    assert {(await read(acme, run_id)).state for run_id in ids} == {"done"}


async def test_a_failed_trial_makes_the_pause_longer_and_lets_another_run_be_the_next(
    runtime, here, acme, enqueue, partner, pass_pause
):
    partner.failure = "refused"
    for number in range(3):
        await enqueue(acme, ask, number=number)
    await here.run_all()
    pauses = []
    for _ in range(7):
        [row] = await runtime.database.pool.fetch(
            "select extract(epoch from open_until - now())::float8 as pause_s from mercato.circuits"
        )
        pauses.append(round(row["pause_s"] / 15))
        await runtime.database.pool.fetch("update mercato.circuits set open_until = now()")
        await runtime.database.pool.fetch(
            "update mercato.jobs set due_at = due_at - interval '1 hour', rung_until = null where state <> 'done'"
        )
        await here.run_all()
    assert pauses == [1, 2, 4, 8, 16, 20, 20]
    assert len({number for _, number in partner.calls[-3:]}) == 3


@pytest.mark.parametrize("failure", OUTAGES)
async def test_what_is_an_outage(here, acme, enqueue, partner, opened, failure):
    partner.failure = failure
    await enqueue(acme, ask)
    await here.run_all()
    assert await opened() == [(acme.id, "partner")]


@pytest.mark.parametrize("failure", [name for name in partner_module.failures if name not in OUTAGES])
async def test_what_is_no_outage_is_the_runs_own_failure(here, acme, enqueue, read, partner, opened, failure):
    partner.failure = failure
    ids = [await enqueue(acme, ask, number=number) for number in range(4)]
    await here.run_all()
    assert await opened() == []
    assert {(await read(acme, run_id)).state for run_id in ids} == {"dead"}


async def test_a_job_that_takes_too_long_by_itself_is_no_outage(here, acme, enqueue, read, partner, opened):
    run_id = await enqueue(acme, ask_slowly)
    await here.run_all()
    assert (await opened(), (await read(acme, run_id)).state) == ([], "dead")


async def test_outages_count_in_a_row(here, acme, enqueue, read, partner, opened):
    ids = []
    for number in range(3):
        partner.failure = "refused"
        ids.append(await enqueue(acme, ask, number=number))
        await here.service.relay.ring()
        await here.provider.run()
        partner.failure = None
        await here.run_all()
    assert await opened() == []
    assert {(await read(acme, run_id)).attempt for run_id in ids} == {2}


async def test_runs_with_a_key_wait_too(here, acme, enqueue, read, partner, pass_pause):
    partner.failure = "refused"
    ids = [await enqueue(acme, ask, number=number, key=f"k{number}") for number in range(4)]
    await here.run_all()
    assert sum([(await read(acme, run_id)).attempt for run_id in ids]) == circuits.MOST_OUTAGES - 1
    partner.failure = None
    await pass_pause()
    await here.run_all()
    await pass_pause()
    await here.run_all()
    assert {(await read(acme, run_id)).state for run_id in ids} == {"done"}


async def test_what_waits_for_a_circuit_is_put_off_until_it_is_tried_again_and_nothing_else_is(
    runtime, here, acme, globex, enqueue, partner
):
    partner.failure = "refused"
    for number in range(5):
        await enqueue(acme, ask, number=number)
    await here.run_all()
    held = [await enqueue(acme, job) for job in (ask, tell)]
    free = [await enqueue(globex, ask), await enqueue(acme, ask_elsewhere), await enqueue(acme, probe.note, word="x")]
    limits = list(here.service.runner.limits.values())
    assert await ledger_choosing.put_off(runtime.database.pool, limits) >= len(held)
    assert await ledger_choosing.put_off(runtime.database.pool, limits) == 0
    later = "select id from mercato.jobs where id = any($1) and due_at > now() order by id"
    assert [row["id"] for row in await runtime.database.pool.fetch(later, [*held, *free])] == held
    partner.failure = None
    await runtime.database.pool.fetch("update mercato.circuits set open_until = now()")
    assert await ledger_choosing.put_off(runtime.database.pool, limits) == 0


async def test_many_that_wait_for_a_circuit_cost_the_others_little(runtime, here, acme, globex, enqueue, partner):
    partner.failure = "refused"
    await enqueue(acme, ask)
    await here.run_all()
    await runtime.database.pool.fetch(
        "insert into mercato.jobs (tenant_id, name, version, payload, priority, state, attempts)"
        " select $1, 'probe.ask', 1, '{}', 1, 'queued', 5 from generate_series(1, 20000)",
        acme.id,
    )
    await enqueue(globex, probe.note, word="free")
    with anyio.fail_after(5):  # it was minutes while the circuits were looked up for each of them
        assert await here.run_all() == 1


async def test_a_tenant_sees_its_own_circuits_and_may_not_change_them(runtime, here, acme, globex, enqueue, partner):
    partner.failure = "refused"
    await enqueue(acme, ask)
    await here.run_all()
    for tenant, seen in ((acme, ["partner"]), (globex, [])):
        async with runtime.database.tenant(tenant.id, read_only=True) as db:
            assert [row.integration for row in await db.rows(select(Circuit))] == seen
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        async with runtime.database.tenant(acme.id) as db:
            await db.session.exec(sa.delete(Circuit))


async def test_a_job_without_an_integration_makes_no_further_statement(
    runtime, here, acme, enqueue, partner, monkeypatch
):
    partner.failure = "refused"
    await enqueue(acme, ask)
    await here.run_all()
    made = []
    fetch = type(runtime.database.pool).fetch

    async def noting(pool, sql, *values):
        made.append(sql)
        return await fetch(pool, sql, *values)

    monkeypatch.setattr(type(runtime.database.pool), "fetch", noting)
    run_id = await enqueue(acme, probe.note, word="free")
    await here.service.runner.handle(run_id)
    assert len(made) == 2  # its claim and its end


async def test_open_circuits_are_a_gauge(runtime, here, acme, globex, enqueue, partner):
    partner.failure = "refused"
    for tenant in (acme, globex):
        await enqueue(tenant, ask)
    await here.run_all()
    metrics = Metrics()
    StoredGauges(runtime.database).watch(metrics)
    for look in metrics.before_page:
        await look()
    assert {watched.name: watched.read() for watched in metrics.watched}["mercato_circuits_open"] == {"partner": 2}
