"""Which run is next: fairly among tenants, by priority within one, and within the limits of each job."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import anyio

from mercato.tenancy import ledger_choosing, ledger_work
from mercato.tenancy.rows import utc_now
from tests.server.jobs import probe


async def _ring(runtime, most, names=("probe.note",), limits=()):
    pool = runtime.database.pool
    ids = await ledger_choosing.ring(pool, most, list(names), limits)
    rows = await pool.fetch("select id, tenant_id, payload from mercato.jobs where id = any($1::bigint[])", ids)
    return {row["id"]: row for row in rows}


async def test_a_crowd_of_one_tenant_keeps_nobody_else_waiting(runtime, acme, globex, context):
    async with context(acme) as ctx:
        for _ in range(300):
            await probe.note.enqueue(ctx, word="crowd", priority="high")
    async with context(globex) as ctx:
        await probe.note.enqueue(ctx, word="one", priority="low")
    first = await _ring(runtime, 10)
    assert [row["tenant_id"] for row in first.values()].count(globex.id) == 1
    assert len(first) == 10


async def test_of_two_crowds_each_gets_half(runtime, acme, globex, context):
    for tenant in (acme, globex):
        async with context(tenant) as ctx:
            for _ in range(50):
                await probe.note.enqueue(ctx, word="x")
    tenants = [row["tenant_id"] for row in (await _ring(runtime, 20)).values()]
    assert tenants.count(acme.id) == tenants.count(globex.id) == 10


async def test_what_a_tenant_has_running_counts_as_its_turn(runtime, here, acme, globex, context):
    async with context(acme) as ctx:
        for _ in range(10):
            await probe.note.enqueue(ctx, word="x")
    started = list(await _ring(runtime, 4))
    claimed = await ledger_work.claim(runtime.database.pool, started, "somebody", {})
    async with context(globex) as ctx:
        for _ in range(10):
            await probe.note.enqueue(ctx, word="x")
    tenants = [row["tenant_id"] for row in (await _ring(runtime, 4)).values()]
    assert tenants == [globex.id] * 4
    await ledger_work.finish(
        runtime.database.pool, [ledger_work.Done(one.id, one.attempt) for one in claimed], "somebody"
    )


async def test_within_a_tenant_priority_goes_first_and_then_age(runtime, acme, context):
    async with context(acme) as ctx:
        for word, priority in (("a", "low"), ("b", "normal"), ("c", "high"), ("d", "high"), ("e", "normal")):
            await probe.note.enqueue(ctx, word=word, priority=priority)
    chosen = []
    for _ in range(5):
        [row] = (await _ring(runtime, 1)).values()
        chosen.append(row["payload"]["word"])
    assert chosen == ["c", "d", "b", "e", "a"]


async def test_what_is_not_due_is_not_chosen_and_holds_up_nobody(runtime, acme, context, enqueue):
    async with context(acme) as ctx:
        for _ in range(50):
            await probe.note.enqueue(ctx, word="later", due_at=utc_now() + timedelta(hours=1))
    assert await _ring(runtime, 5) == {}
    await enqueue(acme, probe.note, word="now")
    [row] = (await _ring(runtime, 5)).values()
    assert row["payload"]["word"] == "now"


async def test_a_job_that_this_process_does_not_know_waits_for_one_that_does(runtime, acme, enqueue):
    await enqueue(acme, probe.note, word="x")
    assert await _ring(runtime, 5, names=["probe.other"]) == {}
    assert len(await _ring(runtime, 5)) == 1


async def test_what_was_rung_is_not_rung_again_until_it_counts_as_lost(runtime, here, acme, enqueue):
    run_id = await enqueue(acme, probe.note, word="x")
    assert list(await _ring(runtime, 5)) == [run_id]
    assert await _ring(runtime, 5) == {}
    await runtime.database.pool.fetch(
        "update mercato.jobs set rung_until = now() - interval '1 s' where id = $1", run_id
    )
    assert await here.run_all() == 1


async def test_what_a_worker_lost_keeps_its_place_before_what_came_later(runtime, acme, context):
    pool = runtime.database.pool
    async with context(acme) as ctx:
        await probe.note.enqueue(ctx, word="first")
    [lost] = await _ring(runtime, 1)
    await ledger_work.claim(pool, [lost], "somebody", {})
    async with context(acme) as ctx:
        await probe.note.enqueue(ctx, word="second")
    await pool.fetch("update mercato.jobs set lease_until = now() - interval '1 s' where id = $1", lost)
    assert await ledger_work.reap(pool) == 1
    assert list(await _ring(runtime, 1)) == [lost]


async def test_the_plan_that_is_kept_reads_no_more_of_a_large_ledger_than_of_a_small_one(runtime, acme):
    async with runtime.database.pool.transaction() as connection:
        types = "int, text[], int[], int[], text[], text[]"
        await connection.execute(f"prepare chosen ({types}) as {ledger_choosing._RING}")
        lines = await connection.fetch("explain execute chosen (40, '{}', '{}', '{}', '{probe.note}', '{}')")
        await connection.execute("deallocate chosen")
    plan = "\n".join(line[0] for line in lines)
    assert "Seq Scan on jobs" not in plan
    assert "$5" in plan  # it is kept, and not made anew for each look


async def _runs_at_once(here, there, names):
    """Ring and run at both workers; return how many of these began, and let them end."""
    async with asyncio.TaskGroup() as tasks:
        for worker in (here, there):
            await worker.service.relay.ring()
            rung, worker.provider._rung = worker.provider._rung, []
            for job_id in rung:
                tasks.create_task(worker.service.runner.handle(job_id))
        for _ in range(200):
            await asyncio.sleep(0.005)
        begun = {name for name in names if probe.gates[name].runs}
        for name in names:
            probe.gates[name].free.set()
    return begun


async def test_no_more_of_a_job_run_at_once_than_it_allows(here, there, acme, globex, enqueue):
    for tenant, name in ((acme, "a"), (globex, "b")):
        await enqueue(tenant, probe.single, name=name)
    assert len(await _runs_at_once(here, there, "ab")) == 1
    with anyio.fail_after(10):
        while await here.run_all() + await there.run_all() == 0:
            pass
    assert probe.gates["a"].runs == probe.gates["b"].runs == 1


async def test_no_more_of_a_job_run_at_once_for_a_tenant_than_it_allows(here, there, acme, globex, enqueue):
    for tenant, name in ((acme, "a"), (acme, "b"), (globex, "c")):
        await enqueue(tenant, probe.one_each, name=name)
    begun = await _runs_at_once(here, there, "abc")
    assert "c" in begun
    assert len(begun) == 2


async def test_what_is_chosen_comes_in_its_turn_and_not_by_its_number(runtime, acme, globex, enqueue):
    low, high = [await enqueue(acme, probe.note, word=word, priority=word) for word in ("low", "high")]
    other = await enqueue(globex, probe.note, word="other", priority="low")
    ids = await ledger_choosing.ring(runtime.database.pool, 10, ["probe.note"])
    assert ids == [high, other, low]
