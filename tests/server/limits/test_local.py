"""Counting in this process, while Redis is away: the same rule, by a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato.server.limits import Window
from mercato.server.limits import local as module
from mercato.server.limits.local import LocalWindows
from tests.server.limits.world import SLOT_S, WINDOW_S, Clock, assert_never_more, within

STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 8)), min_size=1, max_size=40)


@given(steps=STEPS, most=st.integers(1, 20))
def test_no_60_seconds_hold_more_than_the_most_and_room_is_given_a_second_late_at_most(
    steps: list[tuple[float, int]], most: int
):
    clock = Clock()
    counted = LocalWindows(WINDOW_S, clock)
    passed: list[float] = []
    for wait_s, calls in steps:
        clock.now += wait_s
        for _ in range(calls):
            if counted.take([Window("tenant", "7", most)]) is None:
                passed.append(clock.now)
            else:
                assert within(passed, clock.now, WINDOW_S + SLOT_S) >= most
    assert_never_more(passed, most)


@given(steps=STEPS, most=st.integers(1, 20))
def test_after_the_time_that_is_said_a_call_is_let_through_and_a_second_earlier_it_is_not(
    steps: list[tuple[float, int]], most: int
):
    clock = Clock()
    counted = LocalWindows(WINDOW_S, clock)
    windows = [Window("tenant", "7", most)]
    for wait_s, calls in steps:
        clock.now += wait_s
        for _ in range(calls):
            reached = counted.take(windows)
            if reached is not None:
                said = clock.now + reached.retry_after_s
                clock.now = max(clock.now, said - 1.01)
                assert counted.take(windows) is not None
                clock.now = said
                assert counted.take(windows) is None


def test_nothing_is_taken_of_any_where_one_is_full():
    counted = LocalWindows(WINDOW_S, Clock())
    wide, narrow = Window("tenant", "7", 3), Window("heavy", "7", 1)
    assert counted.take([wide, narrow]) is None
    for _ in range(5):
        reached = counted.take([wide, narrow])
        assert (reached.limit, reached.whose, reached.most, reached.window_s) == ("heavy", "7", 1, 60)
    assert [counted.take([wide]) is None for _ in range(3)] == [True, True, False]


def test_of_several_that_are_full_the_one_that_lasts_longest_is_named():
    clock = Clock()
    counted = LocalWindows(WINDOW_S, clock)
    early, late = Window("tenant", "7", 1), Window("caller", "7", 1)
    counted.take([early])
    clock.now += 30
    counted.take([late])
    assert counted.take([early, late]).limit == "caller"
    assert counted.take([late, early]).limit == "caller"


def test_a_limit_of_nothing_lets_nothing_through():
    counted = LocalWindows(WINDOW_S, Clock())
    assert counted.take([Window("tenant", "7", 0)]).retry_after_s >= 1


def test_what_is_kept_is_bounded_and_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOST_KEPT", 5)
    counted = LocalWindows(WINDOW_S, Clock())
    for number in range(20):
        counted.take([Window("tenant", str(number), 1)])
    assert len(counted._taken) == 5
    assert counted.take([Window("tenant", "19", 1)]) is not None
