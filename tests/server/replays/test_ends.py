"""How a call may end badly: cancelled, killed, or with a database that went away. All of it is there, or nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta

import anyio
import pytest
from sqlalchemy.exc import OperationalError

from mercato.server.mcp.delivery import Delivery
from mercato.tenancy import answers, database
from mercato.tenancy.rows import utc_now
from tests.server.replays.tools import gates


async def cancelled(call):
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_of_a_call_that_is_cancelled_before_its_commit_nothing_is_left(here, acme, effects, rows):
    call = asyncio.create_task(here.call(acme, "keep_held", delivery=Delivery()))
    gates["one"].before.set()
    await gates["one"].written.wait()
    await cancelled(call)
    assert here.codes == ["cancelled"]
    gates["one"].open()
    assert (await here.call(acme, "keep_held")).code == "ok"
    assert await effects() == 1


async def test_a_call_that_is_cancelled_after_its_commit_has_lost_its_answer_at_once(here, acme, effects):
    call = asyncio.create_task(here.call(acme, "keep_and_hang", delivery=Delivery()))
    await gates["one"].written.wait()
    await cancelled(call)
    assert (await here.call(acme, "keep_and_hang")).code == "replayed"
    assert await effects() == 1


@pytest.fixture
def committing(monkeypatch):
    """Let the test stand between the order to commit and the commit."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    commit = database._TenantAsyncSession.commit_all

    async def commit_slowly(session):
        begun.set()
        await go_on.wait()
        await commit(session)

    monkeypatch.setattr(database._TenantAsyncSession, "commit_all", commit_slowly)
    return begun, go_on


@pytest.mark.parametrize("cancels", ["the task", "a scope around it"])
async def test_a_commit_is_not_cancelled(here, acme, ada, effects, committing, cancels):
    begun, go_on = committing
    scope, delivery = anyio.CancelScope(), Delivery()

    async def call():
        with scope:
            await here.call(acme, who=ada, delivery=delivery)

    running = asyncio.create_task(call())
    await begun.wait()
    if cancels == "the task":
        running.cancel()
    else:
        scope.cancel()
    assert not (await asyncio.wait([running], timeout=0.05))[0]
    go_on.set()
    await asyncio.wait([running])
    delivery.settled(False)
    assert (await here.call(acme, who=ada)).code == "replayed"
    assert await effects() == 1


async def test_where_the_database_goes_away_in_the_commit_the_repeat_is_safe(here, acme, ada, effects, monkeypatch):
    commit = database._TenantAsyncSession.commit_all

    async def commit_and_lose_touch(session):
        await commit(session)
        raise OperationalError("commit", {}, ConnectionResetError())

    with monkeypatch.context() as patch:
        patch.setattr(database._TenantAsyncSession, "commit_all", commit_and_lose_touch)
        told = await here.call(acme, who=ada, delivery=Delivery())
    assert told.code == "unavailable"
    assert "Call again with the same arguments" in told.error.text()
    assert (await here.call(acme)).code == "replayed"
    assert await effects() == 1


async def test_an_answer_without_a_fate_is_waited_for_and_lost_after_two_seconds(here, there, later, acme, effects):
    delivery = Delivery()
    await here.call(acme, delivery=delivery)
    repeat = asyncio.create_task(there.call(acme, delivered=True))
    assert not (await asyncio.wait([repeat], timeout=0.2))[0]
    assert (await later.call(acme)).code == "replayed"
    delivery.settled(True)
    assert (await repeat).code == "ok"
    assert await effects() == 2


async def test_after_kill_9_the_repeat_gets_the_answer(runtime, mercato_addresses, later, acme, effects):
    script = "import asyncio, tests.server.replays.killed as killed; asyncio.run(killed.main())"
    environment = {
        **os.environ,
        "KILLED_DATA": str(runtime.settings.data_dir),
        "KILLED_DATABASE": mercato_addresses.database_url,
        "KILLED_REDIS": mercato_addresses.redis_url,
        "KILLED_TENANT": acme.slug,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, env=environment)
    with anyio.fail_after(60):
        assert await process.wait() == -signal.SIGKILL
    assert (await later.call(acme, name="killed")).code == "replayed"
    assert await effects() == 1


async def test_what_is_known_is_written_when_the_process_stops(runtime, acme, there, rows):
    from tests.server.replays.replica import Replica

    process = Replica(runtime)
    await process.call(acme, name="lost", delivered=False)
    await process.call(acme, name="arrived", delivered=True)
    await process.replays.stop()
    assert [row.status for row in await rows()] == ["undelivered"]


async def test_what_became_of_answers_waits_for_a_database_that_is_away(here, acme, rows, monkeypatch):
    written, tries = answers.write_fates, []

    async def fail_once(*arguments):
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError
        await written(*arguments)

    monkeypatch.setattr(answers, "write_fates", fail_once)
    await here.call(acme, delivered=True)
    assert (await here.call(acme, delivered=True)).code == "ok"  # known here at once
    with anyio.fail_after(5):
        while await rows():
            await asyncio.wait([asyncio.create_task(rows())])
    assert len(tries) == 2


async def test_old_answers_are_removed_and_young_ones_stay(runtime, here, acme, rows):
    began = utc_now()
    await here.call(acme, delivered=False)
    await answers.purge_answers(runtime.database, began + timedelta(minutes=9, seconds=58))
    assert len(await rows()) == 1
    assert await answers.purge_answers(runtime.database, began + timedelta(minutes=10, seconds=2)) >= 1
    assert await answers.purge_answers(runtime.database, began + timedelta(minutes=10, seconds=2)) == 0
    assert await rows() == []
