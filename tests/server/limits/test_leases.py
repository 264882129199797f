"""Leases: what a process lets through without asking, and that three of them still keep one limit."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mercato.server.limits import Limiter, Window
from mercato.server.limits import leases as module
from mercato.server.limits.shared import _key
from mercato.server.runtime import Runtime
from tests.server.limits.world import Clock, assert_never_more, window


@pytest.fixture
def leasing(runtime: Runtime, clock: Clock) -> Limiter:
    """A limiter by a clock that the test moves."""
    return Limiter(runtime.redis, clock=clock)


async def total_of(runtime: Runtime, counted: Window) -> int:
    return int(await runtime.redis.hget(_key(counted), "total"))


def leased_of(limiter: Limiter, counted: Window) -> int:
    lease = limiter._leases._kept.get(counted.place)
    return 0 if lease is None else lease.left


@pytest.mark.parametrize("most", [100, 5_000, 100_000])
async def test_three_replicas_keep_one_limit_within_two_percent(runtime: Runtime, most: int):
    windows, passed = [window(most)], 0

    async def call_until_refused(replica: Limiter) -> None:
        nonlocal passed
        while replica.take_leased(windows) or await replica.take(windows) is None:
            passed += 1

    async with anyio.create_task_group() as group:
        for replica in [Limiter(runtime.redis) for _ in range(3)]:
            for _ in range(4):
                group.start_soon(call_until_refused, replica)
    assert 0.98 * most <= passed <= most


STEPS = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 2), st.integers(1, 600)), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, most=st.integers(1_001, 3_000))
async def test_with_leases_too_no_60_seconds_hold_more_than_the_most(
    runtime: Runtime, steps: list[tuple[float, int, int]], most: int
):
    clock, windows = Clock(), [window(most)]
    replicas = [Limiter(runtime.redis, clock=clock) for _ in range(3)]
    passed: list[float] = []
    for wait_s, number, calls in steps:
        clock.now += wait_s
        for _ in range(calls):
            if replicas[number].take_leased(windows) or await replicas[number].take(windows) is None:
                passed.append(clock.now)
                clock.now += 0.003
    assert_never_more(passed, most)


async def test_nothing_is_leased_while_fewer_than_1000_remain(leasing: Limiter):
    scarce, enough = window(1_000), window(1_001)
    await leasing.take([scarce, enough])
    assert (leased_of(leasing, scarce), leased_of(leasing, enough)) == (0, 5)
    assert not leasing.take_leased([scarce])
    assert leasing.take_leased([enough])


async def test_a_lease_is_half_a_percent_of_the_rest_and_is_counted_at_once(leasing: Limiter, runtime: Runtime):
    counted = window(100_001)
    await leasing.take([counted])
    assert leased_of(leasing, counted) == 500
    assert await total_of(runtime, counted) == 501
    assert all(leasing.take_leased([counted]) for _ in range(500))
    assert not leasing.take_leased([counted])
    await leasing.take([counted])
    assert leased_of(leasing, counted) == 497
    assert await total_of(runtime, counted) == 501 + 498


async def test_a_lease_ends_with_the_second_that_it_is_counted_in(leasing: Limiter, clock: Clock):
    windows = [window(100_000)]
    await leasing.take(windows)
    clock.now += 0.74  # the clock began at a quarter past
    assert leasing.take_leased(windows)
    clock.now += 0.01
    assert not leasing.take_leased(windows)


async def test_what_is_left_of_a_lease_is_given_back_with_the_next_question(
    leasing: Limiter, runtime: Runtime, clock: Clock
):
    counted, calls = window(100_001), 0
    for _ in range(70):
        await leasing.take([counted])
        assert leasing.take_leased([counted])
        calls += 2
        assert await total_of(runtime, counted) == min(calls, 2 * 61) + leased_of(leasing, counted)
        clock.now += 1


async def test_nothing_is_given_back_twice_or_to_a_count_that_is_gone(leasing: Limiter, runtime: Runtime, clock: Clock):
    counted = window(100_001)
    await leasing.take([counted])
    clock.now += 90
    await leasing.take([counted])
    assert await total_of(runtime, counted) == 1 + leased_of(leasing, counted)
    await runtime.redis.delete(_key(counted))
    clock.now += 1
    await leasing.take([counted])
    assert await total_of(runtime, counted) == 1 + leased_of(leasing, counted)


async def test_many_questions_at_once_get_one_lease(limiter: Limiter, runtime: Runtime):
    counted = window(100_000)
    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(limiter.take, [counted])
    assert await total_of(runtime, counted) == 30 + 499


async def test_of_what_is_leased_nothing_is_taken_where_another_window_is_full(leasing: Limiter):
    wide, narrow = window(100_001), window(1, "heavy")
    assert await leasing.take([wide, narrow]) is None
    assert not leasing.take_leased([wide, narrow])
    for _ in range(3):
        assert (await leasing.take([wide, narrow])).limit == "heavy"
    assert leased_of(leasing, wide) == 500


async def test_only_what_is_not_leased_is_asked_of_redis(leasing: Limiter, runtime: Runtime):
    wide, narrow = window(100_001), window(10, "heavy")
    for _ in range(3):
        assert await leasing.take([wide, narrow]) is None
    assert (await total_of(runtime, wide), await total_of(runtime, narrow)) == (501, 3)
    assert leased_of(leasing, wide) == 498


async def test_who_is_cancelled_puts_back_what_was_leased(leasing: Limiter, monkeypatch: pytest.MonkeyPatch):
    wide, narrow = window(100_001), window(10, "heavy")
    await leasing.take([wide, narrow])
    monkeypatch.setattr(leasing._shared, "take", lambda *_: anyio.sleep_forever())
    with anyio.move_on_after(0.01):
        await leasing.take([wide, narrow])
    assert leased_of(leasing, wide) == 500
    assert not leasing._leasing
    assert not leasing.local


async def test_what_a_process_holds_is_bounded(leasing: Limiter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOST_KEPT", 3)
    counted = [window(100_000) for _ in range(8)]
    await leasing.take(counted)
    assert [leased_of(leasing, each) > 0 for each in counted] == [False] * 5 + [True] * 3
