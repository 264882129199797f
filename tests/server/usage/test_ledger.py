from __future__ import annotations

import asyncio

import anyio
import pytest

from mercato.server.usage import ledger as module
from tests.server.usage.conftest import call, used


async def test_what_was_admitted_and_what_was_recorded_are_equal_to_the_unit(
    open_ledger, tenant, other_tenant, recorded, admitted
):
    ledger = open_ledger()
    ledger.start()
    for number in range(1_234):
        call(ledger, tenant.id)
        if number % 3 == 0:
            call(ledger, other_tenant.id, outcome="timed_out")
            await asyncio.sleep(0)
    await ledger.stop()
    assert (await recorded(tenant.id), await admitted(tenant.id)) == (1_234, 1_234)
    assert (await recorded(other_tenant.id), await admitted(other_tenant.id)) == (412, 412)


async def test_processes_add_up(open_ledger, tenant, recorded, admitted):
    for ledger in (open_ledger(), open_ledger(), open_ledger()):
        for _ in range(10):
            call(ledger, tenant.id)
        await ledger.stop()
    assert (await recorded(tenant.id), await admitted(tenant.id)) == (30, 30)


async def test_records_are_written_without_being_asked(open_ledger, tenant, recorded, monkeypatch):
    monkeypatch.setattr(module, "_FLUSH_S", 0.01)
    ledger = open_ledger()
    ledger.start()
    call(ledger, tenant.id)
    with anyio.fail_after(10):
        while await recorded(tenant.id) == 0:
            await asyncio.sleep(0)
    assert ledger.backlog == 0


async def test_a_crowd_is_written_before_the_second_is_over(open_ledger, tenant, recorded, monkeypatch):
    monkeypatch.setattr(module, "_FLUSH_S", 60)
    ledger = open_ledger()
    ledger.start()
    for _ in range(2_000):
        call(ledger, tenant.id)
    with anyio.fail_after(10):
        while ledger.backlog:
            await asyncio.sleep(0)
    assert await recorded(tenant.id) == 2_000


async def test_stopping_writes_everything_though_nothing_was_started(open_ledger, tenant, recorded):
    ledger = open_ledger()
    for _ in range(2_500):
        call(ledger, tenant.id)
    await ledger.stop()
    assert await recorded(tenant.id) == 2_500


async def test_two_flushes_at_once_write_once(open_ledger, tenant, recorded):
    ledger = open_ledger()
    for _ in range(700):
        call(ledger, tenant.id)
    assert await asyncio.gather(ledger.flush(), ledger.flush()) == [True, True]
    assert await recorded(tenant.id) == 700


async def test_an_outage_of_the_database_loses_nothing_and_doubles_nothing(
    open_ledger, database_relay, tenant, recorded, admitted
):
    ledger = open_ledger(database_url=database_relay.url)
    for _ in range(30):
        call(ledger, tenant.id)
    assert await ledger.flush()
    await database_relay.cut()
    for _ in range(1_500):
        call(ledger, tenant.id)
    assert not await ledger.flush()
    assert not await ledger.flush()
    assert ledger.backlog == 1_500
    await database_relay.open()
    call(ledger, tenant.id)
    assert await ledger.flush()
    await ledger.stop()
    assert (await recorded(tenant.id), await admitted(tenant.id)) == (1_531, 1_531)


async def test_a_batch_whose_commit_was_never_answered_is_stored_once(open_ledger, database_relay, tenant, recorded):
    ledger = open_ledger(database_url=database_relay.url)
    call(ledger, tenant.id)
    assert await ledger.flush()
    for _ in range(40):
        call(ledger, tenant.id)
    database_relay.loses_answer_to = b"COMMIT"
    assert not await ledger.flush()
    await database_relay.lost.wait()
    with anyio.fail_after(10):
        while await recorded(tenant.id) != 41:
            await asyncio.sleep(0)
    assert ledger.backlog == 40
    assert await ledger.flush()
    assert await recorded(tenant.id) == 41


async def test_an_outage_is_told_once_and_again_when_it_comes_again(open_ledger, database_relay, tenant, monkeypatch):
    told = []
    monkeypatch.setattr(module.log, "warning", lambda text, **values: told.append((text, values["exc_info"])))
    ledger = open_ledger(database_url=database_relay.url)
    for _ in range(2):
        await database_relay.cut()
        call(ledger, tenant.id)
        for _ in range(3):
            assert not await ledger.flush()
        await database_relay.open()
        assert await ledger.flush()
    assert told == [("usage waits for the database", None)] * 2


async def test_the_oldest_go_when_too_many_wait_and_that_is_told_once(open_ledger, tenant, recorded, monkeypatch):
    told = []
    monkeypatch.setattr(module.log, "error", lambda text, **values: told.append(text))
    monkeypatch.setattr(module, "MOST_KEPT", 2_600)
    ledger = open_ledger()
    for number in range(2_650):
        call(ledger, tenant.id, outcome="ok" if number >= 50 else "error")
    assert (ledger.backlog, ledger.dropped) == (2_600, 50)
    assert len(told) == 1
    assert await ledger.flush()
    assert await recorded(tenant.id) == 2_600


@pytest.mark.parametrize(
    "odd", [{"session_id": "a\0b"}, {"client_id": "\ud800"}, {"answer_bytes": 2**31}, {"duration_us": 2**70}]
)
async def test_a_record_that_cannot_be_stored_takes_no_other_with_it(
    open_ledger, tenant, other_tenant, recorded, odd, monkeypatch
):
    told = []
    monkeypatch.setattr(module.log, "error", lambda text, **values: told.append(text))
    ledger = open_ledger()
    for number in range(100):
        call(ledger, tenant.id, **(odd if number == 63 else {}))
    call(ledger, other_tenant.id)
    assert await ledger.flush()
    assert (await recorded(tenant.id), await recorded(other_tenant.id)) == (99, 1)
    assert told == ["a usage record cannot be stored"]


async def test_stopping_while_the_database_is_away_ends_and_says_what_is_lost(
    open_ledger, database_relay, tenant, monkeypatch
):
    told = []
    monkeypatch.setattr(module.log, "error", lambda text, **values: told.append(values["records"]))
    ledger = open_ledger(database_url=database_relay.url)
    await database_relay.cut()
    for _ in range(3):
        ledger.note(used(ledger.admitted(tenant.id), tenant.id))
    with anyio.fail_after(10):
        await ledger.stop()
    assert told == [3]
    await database_relay.open()
