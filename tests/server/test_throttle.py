from __future__ import annotations

import secrets

import anyio
import pytest
from redis.asyncio import Redis

from mercato.server import throttle as module
from mercato.server.throttle import Throttle


@pytest.fixture
def name():
    return f"sign-in ada@example.com {secrets.token_hex(6)}"


@pytest.fixture
async def away():
    """A throttle whose Redis is away."""
    redis = Redis.from_url("redis://127.0.0.1:1")
    yield Throttle(redis)
    await redis.aclose()


async def test_attempts_are_counted_by_all_processes_together(runtime, name):
    one, another = Throttle(runtime.redis), Throttle(runtime.redis)
    assert [await one.count(name, 60), await another.count(name, 60), await one.look(name)] == [1, 2, 2]
    assert await one.look(name + "x") == 0


async def test_attempts_that_come_at_once_are_all_counted(runtime, name):
    throttle, counted = Throttle(runtime.redis), []

    async def attempt():
        counted.append(await throttle.count(name, 60))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(attempt)
    assert sorted(counted) == list(range(1, 21))


async def test_what_is_forgotten_is_counted_anew(runtime, name):
    throttle = Throttle(runtime.redis)
    await throttle.count(name, 60)
    await throttle.forget(name)
    assert await throttle.look(name) == 0
    assert await throttle.count(name, 60) == 1


async def test_a_window_begins_with_the_first_attempt_and_no_later_one_prolongs_it(runtime, name):
    throttle = Throttle(runtime.redis)
    await throttle.count(name, 60)
    await throttle.count(name, 6_000)
    assert 0 < await runtime.redis.ttl(module._key(name)) <= 60


async def test_no_name_is_in_redis(runtime, name):
    await Throttle(runtime.redis).count(name, 60)
    keys = [key async for key in runtime.redis.scan_iter(match="mercato:throttle:*", count=1_000)]
    assert module._key(name).encode() in keys
    assert not any(b"@" in key or b"sign-in" in key for key in keys)


async def test_while_redis_is_away_a_process_counts_for_itself(away, name):
    assert [await away.count(name, 60) for _ in range(3)] == [1, 2, 3]
    assert await away.look(name) == 3
    await away.forget(name)
    assert (await away.look(name), await away.count(name, 60)) == (0, 1)


async def test_a_window_ends_while_redis_is_away(away, name, monkeypatch):
    await away.count(name, 60)
    present = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: present + 61)
    assert away._count_here(module._key(name), 60) == 1
    monkeypatch.undo()


async def test_what_one_process_keeps_is_bounded(away, monkeypatch):
    monkeypatch.setattr(module, "_MOST_LOCAL", 5)
    for number in range(20):
        await away.count(f"name {number}", 60)
    assert len(away._local) == 5
    assert await away.count("name 19", 60) == 2
