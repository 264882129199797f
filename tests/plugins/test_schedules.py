"""Schedules: when cron times are, by a clock that is moved twice a year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercato.plugins.schedules import MOST_AT_ONCE, Schedule

ZONES = (
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Chatham",
    "Africa/Casablanca",
)
YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def due_step_by_step(schedule, zone, begin, end, step):
    """Ask as a worker does: every so often, from where the last look ended."""
    found, after = [], begin
    while after < end:
        until = min(after + step, end)
        found.extend(schedule.due(after, until, zone))
        after = until
    return found


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("cron", ["0 3 * * *", "30 2 * * *", "15 1 * * *", "5 0 * * *"])
def test_a_named_hour_comes_once_on_each_day_of_the_year_in_every_zone(name, cron):
    zone, schedule = ZoneInfo(name), Schedule(cron, "all")
    ticks = schedule.due(YEAR, YEAR + timedelta(days=365), zone)
    days = [tick.astimezone(zone).date() for tick in ticks]
    whole = [day for day in sorted(set(days)) if day not in (days[0], days[-1])]
    assert all(days.count(day) == 1 for day in whole)
    assert len(whole) >= 362
    assert ticks == sorted(set(ticks))


def test_a_time_that_is_left_out_is_moved_and_of_one_that_comes_twice_the_first_counts():
    zone, schedule = ZoneInfo("America/New_York"), Schedule("30 2 * * *", "all")
    assert schedule.due(utc(2026, 3, 8), utc(2026, 3, 9), zone) == [
        utc(2026, 3, 8, 7, 30)
    ]  # 03:30, as there is no 02:30
    autumn = Schedule("30 1 * * *", "all").due(utc(2026, 11, 1), utc(2026, 11, 2), zone)
    assert autumn == [utc(2026, 11, 1, 5, 30)]  # the first 01:30, and not that of 06:30 UTC


@pytest.mark.parametrize("name", ZONES)
def test_what_runs_in_every_hour_goes_by_the_time_that_passes(name):
    zone = ZoneInfo(name)
    ticks = Schedule("*/15 * * * *", "all").due(utc(2026, 3, 1), utc(2026, 3, 10), zone)
    assert {after - before for before, after in pairwise(ticks)} == {timedelta(minutes=15)}


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(ZONES),
    cron=st.sampled_from(["0 3 * * *", "30 2 * * *", "*/20 * * * *", "15 */2 * * *", "0 9 * * 1", "0 0 1 * *"]),
    day=st.integers(0, 364),
    step=st.integers(20, 3_000),
)
def test_looking_often_finds_the_same_as_looking_once(name, cron, day, step):
    zone, schedule, begin = ZoneInfo(name), Schedule(cron, "all"), YEAR + timedelta(days=day)
    end = begin + timedelta(days=2)
    whole = schedule.due(begin, end, zone)
    assert due_step_by_step(schedule, zone, begin, end, timedelta(minutes=step)) == whole
    assert whole == sorted(set(whole))


def test_what_was_missed_is_left_out_or_made_up_for_once_or_made_up_for_wholly():
    begin, end = utc(2026, 5, 1), utc(2026, 5, 4, 12)
    assert Schedule("0 3 * * *", "skip").due(begin, end) == []
    assert Schedule("0 3 * * *", "once").due(begin, end) == [utc(2026, 5, 4, 3)]
    assert Schedule("0 3 * * *", "all").due(begin, end) == [utc(2026, 5, day, 3) for day in (1, 2, 3, 4)]


@pytest.mark.parametrize("catch_up", ["skip", "once", "all"])
def test_what_is_found_in_time_is_due_by_every_rule(catch_up):
    tick = utc(2026, 5, 1, 3)
    assert Schedule("0 3 * * *", catch_up).due(tick - timedelta(seconds=1), tick + timedelta(seconds=1)) == [tick]
    assert Schedule("0 3 * * *", catch_up).due(tick, tick + timedelta(seconds=1)) == []


def test_a_long_absence_is_made_up_for_in_lots():
    schedule, begin = Schedule("* * * * *", "all"), utc(2026, 5, 1)
    first = schedule.due(begin, begin + timedelta(days=2))
    assert len(first) == MOST_AT_ONCE
    assert schedule.due(first[-1], begin + timedelta(days=2))[0] == first[-1] + timedelta(minutes=1)


def test_the_next_time_is_found_also_years_ahead_and_may_not_exist():
    assert Schedule("0 3 29 2 *").next(utc(2026, 3, 1)) == utc(2028, 2, 29, 3)
    assert Schedule("0 3 30 2 *").next(utc(2026, 3, 1)) is None
    assert Schedule("0 3 30 2 *").due(utc(2026, 3, 1), utc(2026, 3, 2)) == []


@pytest.mark.parametrize("cron", ["", "0 3 * *", "0 3 * * * *", "61 3 * * *", "@daily"])
def test_what_is_no_schedule_is_refused_when_it_is_declared(cron):
    with pytest.raises(TypeError, match="five fields"):
        Schedule(cron)
