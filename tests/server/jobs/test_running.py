"""Runs: what becomes of a job that ends well, fails, is cancelled, or is lost by its worker."""

from __future__ import annotations

import asyncio

import anyio
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy import job_runs, ledger_work
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.grants import disable_category
from mercato.tenancy.rows import utc_now
from mercato.tenancy.tenants import TenantRecord
from tests.server.jobs import probe


async def test_a_job_runs_once_after_the_commit_and_for_its_tenant(here, acme, globex, context, read, kept):
    async with context(acme) as ctx:
        run_id = await probe.keep.enqueue(ctx, name="one")
        assert await here.run_all() == 0
    assert await here.run_all() == 1
    assert await here.run_all() == 0
    run = await read(acme, run_id)
    assert (run.state, run.attempt, run.error) == ("done", 1, None)
    assert run.result == {"kept": "one", "tenant": acme.slug, "attempt": 1}
    assert await kept(acme) == [f"one-{run_id}"]
    assert await kept(globex) == []


async def _enqueue_and_fail(opened):
    async with opened as ctx:
        await probe.keep.enqueue(ctx, name="one")
        raise ZeroDivisionError


async def test_a_job_of_a_transaction_that_is_undone_never_runs(here, acme, context, kept):
    with pytest.raises(ZeroDivisionError):
        await _enqueue_and_fail(context(acme))
    assert await here.run_all() == 0
    assert await kept(acme) == []


async def test_another_tenant_can_neither_see_nor_touch_a_run(runtime, acme, globex, enqueue, read):
    run_id = await enqueue(acme, probe.keep, name="one")
    with pytest.raises(NotFound):
        await read(globex, run_id)
    async with runtime.database.tenant(globex.id) as db:
        connection = await db.session.connection()
        for scope in (globex.id, acme.id, job_runs.EVERYBODY):
            assert await job_runs.read_runs(connection, scope) == []
            assert await job_runs.read_figures(connection, scope) == []
            with pytest.raises(NotFound):
                await job_runs.cancel(connection, scope, run_id)
            for act in (job_runs.retry, job_runs.replay):
                with pytest.raises(NotFound):
                    await act(connection, scope, run_id, 1)


async def test_what_a_failed_attempt_wrote_is_undone_and_it_is_tried_again(here, acme, enqueue, read, kept):
    run_id = await enqueue(acme, probe.fail, how="no luck", times=2)
    assert await here.run_all() == 3
    run = await read(acme, run_id)
    assert (run.state, run.attempt, run.error) == ("done", 3, None)
    assert await kept(acme) == [f"failed-{run_id}-3"]


@pytest.mark.parametrize(
    ("how", "state", "attempt", "said", "kind"),
    [
        ("no luck", "dead", 3, "no luck", "RuntimeError"),
        ("permanent", "dead", 1, "it cannot be", "Permanent"),
        ("retry", "retrying", 1, "not yet", "Retry"),
        ("tool", "dead", 3, "The shop says no.", "ToolError"),
        ("secret", "dead", 3, "the key *** is wrong", "RuntimeError"),
    ],
)
async def test_how_a_failure_is_taken_down(here, acme, enqueue, read, kept, how, state, attempt, said, kind):
    run_id = await enqueue(acme, probe.fail, how=how)
    await here.run_all()
    run = await read(acme, run_id)
    assert (run.state, run.attempt, run.error, run.error_kind) == (state, attempt, said, kind)
    assert await kept(acme) == []


async def test_a_job_that_takes_too_long_is_stopped(here, acme, enqueue, read):
    run_id = await enqueue(acme, probe.slow)
    await here.run_all()
    run = await read(acme, run_id)
    assert (run.state, run.error_kind) == ("dead", "TimeoutError")


async def test_a_result_that_is_too_large_is_a_failure_that_stays(here, acme, enqueue, read):
    run_id = await enqueue(acme, probe.large_result)
    await here.run_all()
    assert (await read(acme, run_id)).state == "dead"


async def test_a_run_of_a_tenant_that_is_gone_is_dead(runtime, here, acme, enqueue, read):
    run_id = await enqueue(acme, probe.keep, name="one")
    async with runtime.database.system() as session:
        await session.exec(sa.update(TenantRecord).where(col(TenantRecord.id) == acme.id).values(removed_at=utc_now()))
    runtime.directory._access.forget(lambda access: True)
    await here.run_all()
    run = await read(acme, run_id)
    assert (run.state, run.error_kind) == ("dead", "TenantGone")


async def test_of_several_with_one_key_that_wait_one_is_kept(here, acme, globex, enqueue, kept):
    first = await enqueue(acme, probe.keep, name="one", key="k")
    assert await enqueue(acme, probe.keep, name="two", key="k") == first
    others = [
        await enqueue(globex, probe.keep, name="one", key="k"),
        await enqueue(acme, probe.note, word="x", key="k"),
    ]
    assert len({first, *others}) == 3
    await here.run_all()
    assert await enqueue(acme, probe.keep, name="three", key="k") != first
    await here.run_all()
    assert len(await kept(acme)) == 2


async def test_two_with_one_key_never_run_at_once(here, there, acme, enqueue):
    async with asyncio.TaskGroup() as tasks:
        await enqueue(acme, probe.hold, name="same", key="k")
        await here.service.relay.ring()
        tasks.create_task(here.provider.run())
        await probe.gates["same"].started.wait()
        await enqueue(acme, probe.hold, name="same", key="k")
        assert await there.run_all() == 0
        probe.gates["same"].free.set()
    assert await there.run_all() == 1
    assert probe.gates["same"].runs == 2


async def test_of_two_workers_that_are_rung_for_a_row_one_runs_it(here, there, acme, enqueue, kept):
    run_id = await enqueue(acme, probe.keep, name="one")
    await asyncio.gather(*(worker.service.runner.handle(run_id) for worker in (here, there) for _ in range(5)))
    assert await kept(acme) == [f"one-{run_id}"]


@pytest.mark.parametrize("writes", [False, True])
async def test_a_worker_that_lost_its_lease_commits_nothing_and_another_goes_on(
    runtime, here, there, acme, enqueue, read, kept, writes
):
    run_id = await enqueue(acme, probe.hold, name="held", writes=writes)
    gate = probe.gates["held"]
    async with asyncio.TaskGroup() as tasks:
        await here.service.relay.ring()
        tasks.create_task(here.provider.run())
        await gate.started.wait()
        await runtime.database.pool.fetch(
            "update mercato.jobs set lease_until = now() - interval '1 s' where id = $1", run_id
        )
        assert await ledger_work.reap(runtime.database.pool) >= 1
        assert (await read(acme, run_id)).error_kind == "lost"
        gate.free.set()
    assert (await read(acme, run_id)).state == "retrying"
    assert await kept(acme) == []
    assert await there.run_all() == 1
    run = await read(acme, run_id)
    assert (run.state, run.attempt) == ("done", 2)
    assert await kept(acme) == ([f"held-{run_id}-2"] if writes else [])


async def test_renewing_tells_a_worker_what_it_has_lost(runtime, here, acme, enqueue, read):
    run_id = await enqueue(acme, probe.hold, name="held")
    async with asyncio.TaskGroup() as tasks:
        await here.service.relay.ring()
        tasks.create_task(here.provider.run())
        await probe.gates["held"].started.wait()
        await runtime.database.pool.fetch("update mercato.jobs set worker = 'another' where id = $1", run_id)
        with anyio.fail_after(10):
            await here.service.running.renew()
    assert (await read(acme, run_id)).state == "running"
    await runtime.database.pool.fetch("delete from mercato.jobs where id = $1", run_id)


async def test_a_run_that_makes_an_error_of_its_end_is_cancelled_all_the_same(runtime, here, acme, enqueue, read):
    run_id = await enqueue(acme, probe.stubborn, name="h")
    async with asyncio.TaskGroup() as tasks:
        await here.service.relay.ring()
        tasks.create_task(here.provider.run())
        await probe.gates["h"].started.wait()
        async with runtime.database.tenant(acme.id) as db:
            await job_runs.cancel(await db.session.connection(), acme.id, run_id)
        await here.service.running.renew()
    assert (await read(acme, run_id)).state == "cancelled"


async def test_a_run_that_waits_is_cancelled_at_once_and_one_that_runs_is_told(
    runtime, here, acme, enqueue, read, kept
):
    waiting, running = (
        await enqueue(acme, probe.keep, name="one"),
        await enqueue(acme, probe.hold, name="h", writes=True),
    )

    async def cancel(run_id):
        async with runtime.database.tenant(acme.id) as db:
            return await job_runs.cancel(await db.session.connection(), acme.id, run_id)

    assert await cancel(waiting) == "cancelled"
    async with asyncio.TaskGroup() as tasks:
        await here.service.relay.ring()
        tasks.create_task(here.provider.run())
        await probe.gates["h"].started.wait()
        assert await cancel(running) == "running"
        await here.service.running.renew()
    assert [(await read(acme, one)).state for one in (waiting, running)] == ["cancelled", "cancelled"]
    assert await kept(acme) == []
    for one in (waiting, running):
        with pytest.raises(InvalidValue, match="cancelled"):
            await cancel(one)


@pytest.mark.parametrize("job", [probe.hold, probe.stubborn], ids=lambda job: job.name)
async def test_a_worker_that_ends_gives_back_what_it_runs_and_no_attempt_is_counted(
    here, there, acme, enqueue, read, job
):
    run_id = await enqueue(acme, job, name="held")
    await here.service.relay.ring()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(here.provider.run())
        await probe.gates["held"].started.wait()
        await here.service.stop()
    run = await read(acme, run_id)
    assert (run.state, run.attempt, run.worker) == ("queued", 0, None)
    probe.gates["held"].free.set()
    assert await there.run_all() == 1
    assert (await read(acme, run_id)).state == "done"


async def test_a_worker_that_ends_while_it_claims_a_run_gives_it_back(here, there, acme, enqueue, read):
    run_id = await enqueue(acme, probe.keep, name="one")
    handling = asyncio.create_task(here.service.runner.handle(run_id))
    await asyncio.sleep(0)
    handling.cancel()
    await asyncio.gather(handling, return_exceptions=True)
    run = await read(acme, run_id)
    assert (run.state, run.attempt) == ("queued", 0)
    assert await there.run_all() == 1


async def test_an_older_attempt_that_this_worker_lost_takes_nothing_from_the_younger_one(
    runtime, here, acme, enqueue, read, kept
):
    run_id = await enqueue(acme, probe.hold, name="twice", writes=True)
    pool, gate = runtime.database.pool, probe.gates["twice"]
    async with asyncio.TaskGroup() as tasks:
        for attempt in (1, 2):
            await here.service.relay.ring()
            tasks.create_task(here.provider.run())
            with anyio.fail_after(10):
                await gate.started.wait()
            gate.started.clear()
            if attempt == 1:
                await pool.fetch("update mercato.jobs set lease_until = now() where id = $1", run_id)
                assert await ledger_work.reap(pool) == 1
        [run] = here.service.running.runs.values()
        assert run.claimed.attempt == 2
        await here.service.running.renew()
        gate.free.set()
    assert ((await read(acme, run_id)).state, (await read(acme, run_id)).attempt) == ("done", 2)
    assert await kept(acme) == [f"held-{run_id}-2"]


async def test_a_result_that_cannot_be_stored_is_its_own_runs_failure_only(runtime, here, acme, globex, enqueue, read):
    odd = await enqueue(acme, probe.odd_result)
    others = [await enqueue(globex, probe.note, word=str(number)) for number in range(10)]
    await here.run_all()
    run = await read(acme, odd)
    assert (run.state, run.attempt) == ("dead", 1)
    assert "cannot be stored" in run.error
    assert {((one := await read(globex, other)).state, one.attempt) for other in others} == {("done", 1)}


async def test_an_end_that_the_database_refuses_costs_the_others_of_its_lot_nothing(here, acme, enqueue, read):
    good, bad = await enqueue(acme, probe.hold, name="good"), await enqueue(acme, probe.hold, name="bad")
    runner = here.service.runner
    claimed = [one for one in await runner._claim([good, bad]) if one is not None]
    done = [ledger_work.Done(one.id, one.attempt, '{"n": 1e999999}' if one.id == bad else "{}") for one in claimed]
    assert sorted(await runner._finish(done), key=str) == [None, True]
    assert ((await read(acme, good)).state, (await read(acme, bad)).state) == ("done", "running")


async def test_a_job_that_would_end_the_process_has_failed(here, acme, enqueue, read):
    run_id = await enqueue(acme, probe.leave)
    await here.run_all()
    run = await read(acme, run_id)
    assert (run.state, run.attempt) == ("dead", 3)
    assert "end the process" in run.error


async def test_a_dead_run_is_retried_with_new_attempts_and_a_done_one_replayed(
    runtime, here, acme, enqueue, read, kept
):
    dead, done = await enqueue(acme, probe.fail, how="no luck", times=4), await enqueue(acme, probe.keep, name="one")
    await here.run_all()
    assert (await read(acme, dead)).state == "dead"
    async with runtime.database.tenant(acme.id) as db:
        connection = await db.session.connection()
        await job_runs.retry(connection, acme.id, dead, 3)
        again = await job_runs.replay(connection, acme.id, done, 2)
        with pytest.raises(InvalidValue, match="is done: only what is dead, cancelled or waits for another attempt"):
            await job_runs.retry(connection, acme.id, done, 3)
    await here.run_all()
    assert [(run := await read(acme, dead)).state, run.attempt] == ["done", 5]
    assert [(run := await read(acme, again)).state, run.attempts] == ["done", 2]
    assert sorted(await kept(acme)) == sorted([f"one-{done}", f"failed-{dead}-5", f"one-{again}"])


async def test_an_event_starts_no_job_of_a_plugin_that_the_tenant_has_off(here, acme, globex, runtime, context):
    async with runtime.database.tenant(globex.id) as db:
        await disable_category(db, "probe")
    for tenant in (acme, globex):
        async with context(tenant) as ctx:
            await probe.sold.publish(ctx, probe.Sold(order_id=5))
    assert await here.run_all() == 1
    assert [slug for slug, _ in probe.seen] == [acme.slug]


async def test_a_run_that_is_stored_goes_on_when_its_plugin_is_switched_off(here, acme, runtime, enqueue):
    await enqueue(acme, probe.note, word="stored")
    async with runtime.database.tenant(acme.id) as db:
        await disable_category(db, "probe")
    await here.run_all()
    assert probe.seen == [(acme.slug, "stored")]


async def test_an_event_is_told_to_each_job_that_follows_it_after_the_commit(here, acme, context):
    async with context(acme) as ctx:
        await probe.sold.publish(ctx, probe.Sold(order_id=5))
        assert await here.run_all() == 0
    await here.run_all()
    [(slug, event)] = probe.seen
    assert (slug, event.tenant_id, event.data.order_id, event.at.tzinfo is not None) == (acme.slug, acme.id, 5, True)


async def test_an_event_that_nobody_registered_is_refused(acme, context):
    from mercato.plugins.events import Event

    async with context(acme) as ctx:
        with pytest.raises(LookupError, match="no plugin registered"):
            await Event("probe.other", probe.Sold, "Other.").publish(ctx, probe.Sold(order_id=5))


async def test_what_failed_attempts_have_spent_is_shown_with_the_run(here, acme, enqueue, read):
    run_id = await enqueue(acme, probe.spend)
    assert await here.run_all() == 3
    run = await read(acme, run_id)
    assert (run.state, run.cost_cents) == ("dead", 9)


async def test_a_lost_run_for_which_a_younger_one_stands_has_ended(runtime, here, acme, enqueue, read):
    older = await enqueue(acme, probe.hold, name="held", key="k")
    async with asyncio.TaskGroup() as tasks:
        await here.service.relay.ring()
        tasks.create_task(here.provider.run())
        await probe.gates["held"].started.wait()
        younger = await enqueue(acme, probe.hold, name="held", key="k")
        expire = "update mercato.jobs set lease_until = now() - interval '1 s' where id = $1"
        await runtime.database.pool.fetch(expire, older)
        await ledger_work.reap(runtime.database.pool)
        probe.gates["held"].free.set()
    run = await read(acme, older)
    assert (run.state, run.finished_at is not None) == ("cancelled", True)
    assert (await read(acme, younger)).state == "queued"
