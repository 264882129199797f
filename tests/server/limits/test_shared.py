"""Counting in Redis, by a clock that the test moves in place of Redis's own."""

from __future__ import annotations

import secrets

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mercato.server.limits import Limiter, Window, script
from mercato.server.limits.shared import _key
from mercato.server.runtime import Runtime
from tests.server.limits.world import SLOT_S, WINDOW_S, Clock, assert_never_more, window, within

EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(0, 2), st.integers(1, 8)), min_size=1, max_size=20)


@EXAMPLES
@given(steps=STEPS, most=st.integers(1, 20))
async def test_no_60_seconds_hold_more_than_the_most_whichever_replica_lets_them_through(
    runtime: Runtime, steps: list[tuple[float, int, int]], most: int
):
    clock, counted = Clock(), window(most)
    replicas = [Limiter(runtime.redis, clock=clock) for _ in range(3)]
    passed: list[float] = []
    for wait_s, replica, calls in steps:
        clock.now += wait_s
        for _ in range(calls):
            if await replicas[replica].take([counted]) is None:
                passed.append(clock.now)
            else:
                assert within(passed, clock.now, WINDOW_S + SLOT_S) >= most
    assert not any(replica.local for replica in replicas)
    assert_never_more(passed, most)


@EXAMPLES
@given(steps=STEPS, most=st.integers(1, 20))
async def test_after_the_time_that_is_said_a_call_is_let_through_and_a_second_earlier_it_is_not(
    runtime: Runtime, steps: list[tuple[float, int, int]], most: int
):
    clock, windows = Clock(), [window(most)]
    replicas = [Limiter(runtime.redis, clock=clock) for _ in range(3)]
    for wait_s, replica, calls in steps:
        clock.now += wait_s
        for _ in range(calls):
            reached = await replicas[replica].take(windows)
            if reached is not None:
                said = clock.now + reached.retry_after_s
                clock.now = max(clock.now, said - 1.01)
                assert await replicas[0].take(windows) is not None
                clock.now = said
                assert await replicas[replica].take(windows) is None


async def test_by_the_clock_of_redis_too_a_call_is_let_through_after_the_time_that_is_said(runtime: Runtime):
    limiter, windows = Limiter(runtime.redis, window_s=0.6), [window(3)]
    for _ in range(3):
        assert await limiter.take(windows) is None
    reached = await limiter.take(windows)
    assert (reached.window_s, reached.retry_after_s) == (1, 1)
    with anyio.fail_after(reached.retry_after_s):
        while await limiter.take(windows) is not None:
            pass


async def test_tenants_callers_and_limits_are_counted_apart(limiter: Limiter):
    one, other = secrets.token_hex(8), secrets.token_hex(8)
    counted = [
        Window(name, key, 1)
        for name in ("tenant", "caller", "read")
        for key in (one, other, f"{one}:key:1", f"{one}:key:12", f"{one}:user:1", f"{one} ", f"{one}\n", f"{one}:ü☃")
    ]
    for each in counted:
        assert await limiter.take([each]) is None
    for each in counted:
        reached = await limiter.take([each])
        assert (reached.limit, reached.whose, reached.most) == (each.name, each.key, 1)


async def test_nothing_is_taken_of_any_where_one_is_full(limiter: Limiter):
    wide, narrow = window(3), window(1, "heavy")
    assert await limiter.take([wide, narrow]) is None
    for _ in range(5):
        assert (await limiter.take([wide, narrow])).limit == "heavy"
    assert [await limiter.take([wide]) is None for _ in range(3)] == [True, True, False]


async def test_of_several_that_are_full_the_one_that_lasts_longest_is_named(runtime: Runtime, clock: Clock):
    limiter, early, late = Limiter(runtime.redis, clock=clock), window(1), window(1, "caller")
    await limiter.take([early])
    clock.now += 30
    await limiter.take([late])
    for windows in ([early, late], [late, early]):
        reached = await limiter.take(windows)
        assert (reached.limit, reached.retry_after_s) == ("caller", 61)


async def test_calls_that_come_at_once_are_all_counted(limiter: Limiter):
    counted, passed = window(20), []

    async def call() -> None:
        passed.append(await limiter.take([counted]) is None)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(call)
    assert sorted(passed) == [False] * 30 + [True] * 20


async def test_more_calls_than_are_sent_together_get_their_own_answers(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(script, "_MOST_AT_ONCE", 3)
    counted = [window(number % 2, str(number)) for number in range(20)]
    passed: dict[str, bool] = {}

    async def call(each: Window) -> None:
        reached = await limiter.take([each])
        passed[each.name] = reached is None
        assert reached is None or reached.limit == each.name

    async with anyio.create_task_group() as group:
        for each in counted:
            group.start_soon(call, each)
    assert passed == {each.name: each.most == 1 for each in counted}


async def test_who_is_cancelled_while_waiting_keeps_nobody_from_their_answer(limiter: Limiter):
    counted, passed = window(100), []

    async def call() -> None:
        passed.append(await limiter.take([counted]))

    async with anyio.create_task_group() as group, anyio.create_task_group() as cancelled:
        for _ in range(5):
            group.start_soon(call)
            cancelled.start_soon(limiter.take, [counted])
        await anyio.lowlevel.checkpoint()
        cancelled.cancel_scope.cancel()
    assert passed == [None] * 5


@pytest.mark.parametrize("most", [0, 1, 10**9])
async def test_the_least_and_the_most_that_can_be_set_are_counted(limiter: Limiter, runtime: Runtime, most: int):
    counted = window(most)
    assert (await limiter.take([counted]) is None) == (most > 0)
    if most == 10**9:
        assert int(await runtime.redis.hget(_key(counted), "total")) == 1 + (most - 1) // 200


async def test_a_limit_that_was_lowered_holds_at_once(runtime: Runtime, clock: Clock):
    limiter, key = Limiter(runtime.redis, clock=clock), secrets.token_hex(8)
    for _ in range(10):
        assert await limiter.take([Window("tenant", key, 10)]) is None
        clock.now += 1
    reached = await limiter.take([Window("tenant", key, 4)])
    clock.now += reached.retry_after_s - 1.5
    assert await limiter.take([Window("tenant", key, 4)]) is not None
    clock.now += 1.5
    assert await limiter.take([Window("tenant", key, 4)]) is None


async def test_where_the_clock_of_redis_is_put_back_nobody_gets_more(runtime: Runtime, clock: Clock):
    limiter, windows = Limiter(runtime.redis, clock=clock), [window(4)]
    passed = [await limiter.take(windows) for _ in range(2)]
    clock.now -= 3_600
    passed += [await limiter.take(windows) for _ in range(3)]
    assert [reached is None for reached in passed] == [True] * 4 + [False]
    assert passed[-1].retry_after_s == 61
    clock.now += 3_600 + 30
    assert await limiter.take(windows) is not None
    clock.now += 31
    assert await limiter.take(windows) is None


async def test_a_redis_that_forgot_the_scripts_is_told_them_again(limiter: Limiter, runtime: Runtime):
    counted = window(10)
    for _ in range(2):
        await runtime.redis.script_flush()
        assert await limiter.take([counted]) is None
        assert await limiter.spend(7, secrets.token_hex(4), 1, 1) is None
    assert not limiter.local
    assert int(await runtime.redis.hget(_key(counted), "total")) == 2


async def test_every_key_ends_and_holds_no_name(limiter: Limiter, runtime: Runtime):
    counted = window(10, key="somebody@example.com")
    await limiter.take([counted])
    await limiter.take([counted])
    assert 60_000 < await runtime.redis.pttl(_key(counted)) <= 62_000
    keys = [key async for key in runtime.redis.scan_iter(match="mercato:limit:*", count=1_000)]
    assert _key(counted).encode() in keys
    assert not any(b"@" in key for key in keys)
    assert -1 not in [await runtime.redis.ttl(key) for key in keys]


async def test_what_has_left_the_window_is_not_kept(runtime: Runtime, clock: Clock):
    limiter, counted = Limiter(runtime.redis, clock=clock), window(1_000)
    for _ in range(200):
        await limiter.take([counted])
        clock.now += 1
    assert await runtime.redis.hlen(_key(counted)) == 61 + len({"slot", "total"})
