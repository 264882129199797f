"""A repeat while the first still runs: it joins where the key is equal or the first caller is gone, else it runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio
import pytest

from mercato.server.mcp.delivery import Delivery
from mercato.server.replays import fates, replays
from mercato.tenancy import answers
from mercato.tenancy.onboarding import local_principal
from mercato.tools.outcome import Outcome
from mercato.tools.replays import fingerprint_of
from tests.server.replays.tools import gates


@asynccontextmanager
async def running(process, tenant, tool="keep_held", name="one", *, until="written", **options):
    """A call that stands still before it has written (`started`), or after; yields the call and its delivery."""
    delivery = Delivery()
    call = asyncio.create_task(process.call(tenant, tool, name, delivery=delivery, **options))
    if until == "written":
        gates[name].before.set()
    with anyio.fail_after(10):
        await getattr(gates[name], until).wait()
    try:
        yield call, delivery
    finally:
        gates[name].open()
        await asyncio.gather(call, return_exceptions=True)


async def waits(call):
    """Whether a call is still not answered once all that could answer it has had its turn."""
    done, _ = await asyncio.wait([call], timeout=0.25)
    return not done


@pytest.fixture(params=["here", "there"])
def second(request):
    """The process that the repeat comes to: the same one, or another."""
    return request.getfixturevalue(request.param)


async def test_both_run_where_the_first_caller_is_there(here, second, acme, effects):
    async with running(here, acme) as (first, delivery):
        repeat = asyncio.create_task(second.call(acme, "keep_held", delivered=True))
        gates["one"].after.set()
        assert (await first).code == "ok"
        delivery.settled(True)
        assert (await repeat).code == "ok"
    assert await effects() == 2


async def test_a_repeat_runs_beside_a_first_that_is_not_done_yet(here, second, acme, effects):
    async with running(here, acme) as (first, delivery):
        repeat = asyncio.create_task(second.call(acme, "keep_held", delivered=True))
        with anyio.fail_after(5):
            while gates["one"].writes < 2:
                await asyncio.wait([repeat], timeout=0.01)
        assert not first.done()
        gates["one"].after.set()
        await first
        delivery.settled(True)
        assert (await repeat).code == "ok"
    assert await effects() == 2


async def test_the_word_that_the_caller_is_gone_waits_for_no_other_word(here, acme, rows, monkeypatch):
    monkeypatch.setattr(fates, "_LINGER_S", 60)
    async with running(here, acme, until="started") as (first, delivery):
        delivery.abandoned()
        with anyio.fail_after(10):
            while not await rows():
                await anyio.lowlevel.checkpoint()
        assert [row.status for row in await rows()] == ["abandoned"]
        gates["one"].open()
        await first


@pytest.mark.parametrize("until", ["started", "written"])
async def test_a_repeat_joins_where_the_first_caller_is_gone(here, second, acme, effects, until):
    async with running(here, acme, until=until) as (first, delivery):
        delivery.abandoned()
        if second is not here:
            await here.replays.fates.flush()
        repeat = asyncio.create_task(second.call(acme, "keep_held"))
        assert await waits(repeat)
        gates["one"].open()
        answer = await first
        delivery.settled(False)
        assert ((await repeat).code, (await repeat).structured) == ("replayed", answer.structured)
    assert gates["one"].runs == 1
    assert await effects() == 1


async def test_a_repeat_joins_where_word_of_the_lost_caller_comes_while_it_looks(here, there, acme, effects):
    async with running(here, acme) as (first, delivery):
        gates["two"].before.set()
        repeat = asyncio.create_task(there.call(acme, "keep_held"))
        with anyio.fail_after(5):
            while gates["one"].runs < 2:  # it has looked, found nothing, and begins
                await asyncio.wait([repeat], timeout=0.005)
        delivery.abandoned()
        await here.replays.fates.flush()
        assert await waits(repeat)
        gates["one"].after.set()
        answer = await first
        delivery.settled(False)
        assert (await repeat).structured == answer.structured
    assert await effects() == 1


async def test_a_repeat_runs_where_the_first_that_lost_its_caller_fails(here, second, acme, effects):
    async with running(here, acme, name="fails") as (first, delivery):
        delivery.abandoned()
        await here.replays.fates.flush()
        repeat = asyncio.create_task(second.call(acme, "keep_held", "fails"))
        assert await waits(repeat)
        gates["fails"].open()
        assert (await first).code == "error"
        await here.replays.fates.flush()
        assert (await repeat).code == "error"
    assert gates["fails"].runs == 2
    assert await effects() == 0


async def test_an_answer_that_somebody_came_back_for_is_no_lost_one(here, there, acme, effects):
    async with running(here, acme) as (first, delivery):
        delivery.abandoned()
        gates["one"].open()
        await first
        delivery.settled(True)
        await here.replays.fates.flush()
        assert (await there.call(acme, "keep_held")).code == "ok"
    assert await effects() == 2


@pytest.mark.parametrize("until", ["started", "written"])
async def test_a_repeat_under_the_same_key_joins_the_first(here, acme, effects, until):
    async with running(here, acme, until=until, key="k") as (first, delivery):
        repeat = asyncio.create_task(here.call(acme, "keep_held", key="k"))
        assert await waits(repeat)
        gates["one"].open()
        answer = await first
        delivery.settled(True)
        assert (await repeat).structured == answer.structured
    assert gates["one"].runs == 1
    assert await effects() == 1


@pytest.mark.parametrize("until", ["started", "written"])
async def test_a_repeat_under_the_same_key_has_no_effect_of_its_own_in_another_process(
    here, there, acme, effects, until
):
    async with running(here, acme, until=until, key="k") as (first, delivery):
        repeat = asyncio.create_task(there.call(acme, "keep_held", key="k"))
        assert await waits(repeat)
        gates["one"].open()
        answers = {(await first).structured, (await repeat).structured}
        delivery.settled(True)
    assert len(answers) == 1
    assert await effects() == 1


async def test_many_at_once_under_one_key_have_one_effect(here, there, acme, effects):
    calls = [process.call(acme, key="k", delivered=True) for process in (here, there) * 5]
    outcomes = await asyncio.gather(*calls)
    assert len({outcome.structured for outcome in outcomes}) == 1
    assert sorted(outcome.code for outcome in outcomes) == ["ok"] + ["replayed"] * 9
    assert await effects() == 1


async def test_many_at_once_with_one_request_state_have_one_effect(here, there, acme, effects):
    outcomes = await asyncio.gather(*(process.call(acme, state="s", delivered=True) for process in (here, there) * 5))
    assert len({outcome.structured for outcome in outcomes}) == 1
    assert await effects() == 1


async def test_waiting_for_the_first_ends_some_seconds_after_the_time_out(here, acme, monkeypatch, effects):
    monkeypatch.setattr(replays, "_COMMIT", replays.timedelta(0))
    async with running(here, acme, key="k") as (first, _):
        told = await here.call(acme, "keep_soon", key="k")
        assert (told.code, told.error.retryable) == ("still_running", True)
        gates["one"].open()
        assert (await first).code == "ok"
    assert await effects() == 1


async def test_a_call_that_nobody_waits_for_leaves_it_to_one_that_has_its_caller(here, there, acme, effects):
    async with running(here, acme, until="started") as (lonely, delivery):
        repeat = asyncio.create_task(there.call(acme, "keep_held", delivered=True))
        with anyio.fail_after(5):
            while gates["one"].runs < 2:
                await asyncio.wait([repeat], timeout=0.005)
        delivery.abandoned()
        gates["one"].before.set()
        with anyio.fail_after(5):
            await gates["one"].written.wait()
        gates["one"].after.set()
        codes = sorted([(await lonely).code, (await repeat).code])
    assert codes in (["ok", "still_running"], ["ok", "replayed"], ["ok", "ok"])
    assert await effects() == codes.count("ok")


async def test_a_call_that_has_lost_its_caller_does_not_wait_for_itself(here, acme, effects, rows, monkeypatch):
    look_up, marked = answers.look_up, []

    async def look_up_late(*arguments):
        await here.replays.fates.flush()
        marked.extend(await rows())
        return await look_up(*arguments)

    monkeypatch.setattr(answers, "look_up", look_up_late)
    delivery = Delivery()
    delivery.abandoned()
    with anyio.fail_after(5):
        assert (await here.call(acme, delivery=delivery)).code == "ok"
    assert [row.status for row in marked] == ["abandoned"]
    await here.replays.fates.flush()
    assert [row.status for row in await rows()] == ["undelivered"]
    assert await effects() == 1


@pytest.mark.parametrize("name", ["one", "goes on"])
async def test_the_first_answer_is_given_also_where_the_tool_makes_something_else_of_it(
    here, there, runtime, acme, effects, name
):
    repeat = asyncio.create_task(there.call(acme, "keep_stubbornly", name))
    with anyio.fail_after(5):
        await gates[name].started.wait()  # it has looked, and begins
    who = await local_principal(runtime.database, acme)
    call = fingerprint_of(who, "keep_stubbornly", {"name": name})
    async with here.replays.attempt(call, delivery := Delivery(), timeout_s=1) as attempt:
        await attempt.look()
        async with runtime.database.tenant(acme.id) as db:
            attempt.guard(db)
            await attempt.remember(db, Outcome(b'{"text":"first"}'))
    delivery.settled(False)
    await here.replays.fates.flush()
    gates[name].before.set()
    assert ((await repeat).code, (await repeat).structured) == ("replayed", b'{"text":"first"}')
    assert await effects() == 0
