from __future__ import annotations

import asyncio
from datetime import date

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.server.usage import AdmissionCounter, admitted_on
from mercato.server.usage import admissions as module

MONDAY, TUESDAY = date(2031, 3, 31), date(2031, 4, 1)
MIDNIGHT = 1_932_768_000


@pytest.fixture
async def open_counter(runtime, mercato_addresses):
    """Make counters that are not started."""
    opened = []

    async def make(url=None):
        redis = Redis.from_url(url or mercato_addresses.redis_url, socket_connect_timeout=2)
        opened.append((counter := AdmissionCounter(redis, url or mercato_addresses.redis_url), redis))
        await counter.confirm()
        return counter

    yield make
    for counter, redis in opened:
        await counter.stop()
        await redis.aclose()


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""

    def turn(time_s):
        monkeypatch.setattr(module.time, "time", lambda: time_s)

    return turn


async def _until(admitted, tenant_id, count):
    with anyio.fail_after(10):
        while await admitted(tenant_id) != count:
            await asyncio.sleep(0)


async def test_a_count_is_told_in_the_next_turn_of_the_loop(open_counter, tenant, admitted):
    counter = await open_counter()
    for _ in range(5):
        counter.count(tenant.id)
    assert await admitted(tenant.id) == 5


async def test_a_count_that_was_pushed_is_out_of_the_process_at_once(open_counter, tenant, runtime, monkeypatch):
    counter = await open_counter()
    sent = []
    monkeypatch.setattr(counter._line, "send", sent.append)
    counter.count(tenant.id)
    counter.count(tenant.id)
    assert sent == []
    counter.push()
    assert len(sent) == 1
    assert b"$1\r\n2\r\n" in sent[0]
    counter.push()
    await asyncio.sleep(0)
    assert len(sent) == 1


async def test_counts_of_tenants_and_processes_are_kept_apart_and_added(open_counter, tenant, other_tenant, admitted):
    one, another = await open_counter(), await open_counter()
    for _ in range(3):
        one.count(tenant.id)
        another.count(tenant.id)
        another.count(other_tenant.id)
    await one.confirm()
    await another.confirm()
    assert (await admitted(tenant.id), await admitted(other_tenant.id)) == (6, 3)


async def test_a_call_counts_on_the_day_on_which_it_was_let_in(open_counter, tenant, runtime, clock):
    counter = await open_counter()
    for time_s in (MIDNIGHT - 0.0000004, MIDNIGHT, MIDNIGHT + 5, MIDNIGHT - 1):
        clock(time_s)
        assert counter.count(tenant.id) == time_s
    await counter.confirm()
    assert await admitted_on(runtime.redis, tenant.id, [MONDAY, TUESDAY]) == {MONDAY: 2, TUESDAY: 2}


async def test_a_day_that_is_over_is_forgotten_once_redis_has_it(open_counter, tenant, clock):
    counter = await open_counter()
    for time_s in (MIDNIGHT - 1, MIDNIGHT):
        clock(time_s)
        counter.count(tenant.id)
    assert set(counter._days) == {MONDAY, TUESDAY}
    await counter.confirm()
    await counter.confirm()
    assert set(counter._days) == {TUESDAY}


async def test_counts_are_kept_for_four_hundred_days(open_counter, tenant, runtime, admitted, today):
    counter = await open_counter()
    counter.count(tenant.id)
    await _until(admitted, tenant.id, 1)
    key = module._key(today, tenant.id)
    assert 399 * 86_400 < await runtime.redis.ttl(key) <= 400 * 86_400
    await runtime.redis.persist(key)
    counter.count(tenant.id)
    await counter.confirm()
    assert await runtime.redis.ttl(key) > 399 * 86_400


async def test_an_outage_of_redis_loses_nothing_and_doubles_nothing(open_counter, redis_relay, tenant, admitted):
    counter = await open_counter(redis_relay.url)
    for _ in range(7):
        counter.count(tenant.id)
    await counter.confirm()
    for _ in range(2):
        await redis_relay.cut()
        for _ in range(5):
            counter.count(tenant.id)
            await asyncio.sleep(0)
        await counter.confirm()
        await redis_relay.open()
        counter.count(tenant.id)
        await counter.confirm()
        counter.count(tenant.id)
        counter.push()
    await _until(admitted, tenant.id, 21)
    await counter.confirm()
    assert await admitted(tenant.id) == 21


async def test_what_was_told_twice_or_late_changes_nothing(open_counter, tenant, runtime, admitted, today):
    counter = await open_counter()
    for _ in range(4):
        counter.count(tenant.id)
    await counter.confirm()
    await runtime.redis.zadd(module._key(today, tenant.id), {counter._process: 3}, gt=True)
    counter._today.unconfirmed.add(tenant.id)
    await counter.confirm()
    assert await admitted(tenant.id) == 4


async def test_a_redis_that_has_forgotten_is_told_again(open_counter, redis_relay, tenant, runtime, admitted, today):
    counter = await open_counter(redis_relay.url)
    for _ in range(4):
        counter.count(tenant.id)
    await counter.confirm()
    await redis_relay.cut()
    await runtime.redis.delete(module._key(today, tenant.id))
    await redis_relay.open()
    await counter.confirm()
    assert await admitted(tenant.id) == 4


async def test_an_outage_is_told_once(open_counter, redis_relay, tenant, monkeypatch):
    told = []
    monkeypatch.setattr(module.log, "warning", lambda text, **values: told.append(text))
    counter = await open_counter(redis_relay.url)
    await redis_relay.cut()
    for _ in range(3):
        counter.count(tenant.id)
        await counter.confirm()
    assert len(told) == 1
    await redis_relay.open()


async def test_a_server_that_does_not_keep_silent_does_not_end_the_line(open_counter, tenant, admitted):
    counter = await open_counter()
    counter._line.send(b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n")
    for count in range(1, 4):
        counter.count(tenant.id)
        await _until(admitted, tenant.id, count)
        assert counter._line.is_open()


async def test_a_server_that_takes_nothing_more_is_left_and_told_later(open_counter, tenant, admitted, monkeypatch):
    counter = await open_counter()
    counter.count(tenant.id)
    counter._line.send(b"\r\n" * 2_000_000)
    assert not counter._line.is_open()
    counter.count(tenant.id)
    await counter.confirm()
    assert counter._line.is_open()
    assert await admitted(tenant.id) == 2


async def test_who_asks_is_told_when_redis_is_away(tenant, today):
    redis = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisError):
        await admitted_on(redis, tenant.id, [today])
    await redis.aclose()
