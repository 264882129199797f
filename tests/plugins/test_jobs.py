"""Jobs and events as they are declared: what can be one, and what becomes of a payload."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mercato.plugins.events import Event, TenantEvent
from mercato.plugins.jobs import Backoff, InvalidPayload, job
from mercato.plugins.schedules import Schedule


class Sold(BaseModel):
    order_id: int


sold = Event("probe.sold", Sold, "An order was placed.")


@job("probe.count")
async def count(ctx, since: date, pages: int = 10) -> None:
    """Count."""


def test_a_payload_is_checked_when_it_is_stored_and_when_it_is_read():
    stored = count.dump({"since": date(2026, 1, 2)})
    assert stored == '{"since":"2026-01-02"}'
    assert count.load(1, {"since": "2026-01-02"}) == {"since": date(2026, 1, 2), "pages": 10}
    for wrong in ({}, {"since": "soon"}, {"since": "2026-01-02", "more": 1}):
        with pytest.raises(InvalidPayload, match=r"probe\.count"):
            count.dump(wrong)
        with pytest.raises(InvalidPayload):
            count.load(1, wrong)


def test_a_payload_of_an_older_version_is_brought_up_to_date_and_of_a_newer_one_refused():
    @job("probe.newer", version=3, upgrade=lambda version, old: {"name": f"{old['title']} {version}"})
    async def newer(ctx, name: str) -> None:
        """Be newer."""

    assert newer.load(1, {"title": "old"}) == {"name": "old 1"}
    for version in (4, 99):
        with pytest.raises(InvalidPayload, match="version"):
            newer.load(version, {"name": "x"})
    with pytest.raises(InvalidPayload, match="version"):
        count.load(2, {"since": "2026-01-02"})


def test_what_is_too_large_is_refused():
    @job("probe.large")
    async def large(ctx, text: str) -> None:
        """Be large."""

    with pytest.raises(InvalidPayload, match="Store what is large"):
        large.dump({"text": "x" * 70_000})


@given(failures=st.integers(1, 200), chance=st.floats(0, 1))
def test_waits_grow_to_their_cap_and_chance_only_shortens_them(failures, chance):
    backoff = Backoff(base_s=2, factor=3, cap_s=600, jitter=0.5)
    longest = min(2 * 3.0 ** (failures - 1), 600)
    assert longest * 0.5 <= backoff.wait_s(failures, chance) <= longest


def _declare(function, name="probe.wrong", **options):
    with pytest.raises(TypeError) as refused:
        job(name, **options)(function)
    return str(refused.value)


async def fine(ctx) -> None:
    """Do it."""


async def silent(ctx) -> None: ...


async def untyped(ctx, much) -> None:
    """Do it."""


async def clashing(ctx, key: str) -> None:
    """Do it."""


async def needing(ctx, much: int) -> None:
    """Do it."""


async def starred(ctx, *many: int) -> None:
    """Do it."""


def plain(ctx):
    """Do it."""


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (fine, {"name": "nodot"}, "<plugin>.<noun>"),
        (fine, {"name": "Probe.x"}, "snake_case"),
        (plain, {}, "async def"),
        (silent, {}, "docstring"),
        (untyped, {}, "must have a type"),
        (clashing, {}, "key"),
        (starred, {}, "name of its own"),
        (needing, {"schedule": Schedule("0 3 * * *")}, "needs a default"),
        (fine, {"on": sold}, "one event"),
        (needing, {"on": sold}, "one event"),
        (fine, {"priority": "urgent"}, "priority"),
        (fine, {"timeout_s": 0}, "time-out"),
        (fine, {"concurrency": 0}, "concurrency"),
    ],
)
def test_what_cannot_be_a_job_is_refused_when_it_is_declared(function, options, said):
    assert said in _declare(function, **options)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"jitter": 2}, {"factor": 0.5}, {"base_s": -1}])
def test_a_backoff_that_cannot_be_is_refused(wrong):
    with pytest.raises(TypeError, match="cannot be"):
        Backoff(**wrong)


def test_a_job_on_an_event_takes_it_typed():
    @job("probe.follow", on=sold)
    async def follow(ctx, event: TenantEvent[Sold]) -> None:
        """Follow."""

    told = sold.told("e1", 7, Sold(order_id=5))
    [read] = follow.load(1, {"event": told.model_dump(mode="json")}).values()
    assert (read.id, read.tenant_id, read.data.order_id) == ("e1", 7, 5)
    assert follow.parameters == ["event"]


@pytest.mark.parametrize(("name", "description"), [("sold", "x"), ("probe.Sold", "x"), ("probe.sold", " ")])
def test_an_event_that_cannot_be_is_refused(name, description):
    with pytest.raises(TypeError):
        Event(name, Sold, description)
