from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from mercato import Category, Event, Schedule, TenantEvent, job
from mercato.tenancy.grants import disable_category
from tests.inmemory import client_of, plugin
from tests.plugins.system.conftest import SYSTEM


class Baked(BaseModel):
    loaf: Literal["rye", "wheat"] = Field(description="Which.")
    grams: int = Field(ge=1)


class Sold(BaseModel):
    order_id: int


bread_baked = Event("bakery.bread_baked", Baked, "A loaf came out of the oven.")
bike_sold = Event("bikes.bike_sold", Sold, "A bike was sold.")


@job("bakery.clean", schedule=Schedule("0 3 * * *"), each_tenant=True)
async def clean(ctx, pages: int = 3) -> None:
    """Clean the oven."""


@job("bakery.smell", on=bread_baked)
async def smell(ctx, event: TenantEvent[Baked]) -> None:
    """Tell everybody about fresh bread."""


@job("bikes.ring")
async def ring(ctx, times: int) -> None:
    """Ring the bell."""


BAKERY = plugin(
    "bakery",
    register_categories=[Category("bakery", "Bread.")],
    register_jobs=[clean, smell],
    register_events=[bread_baked],
)
BIKES = plugin(
    "bikes", register_categories=[Category("bikes", "Bikes.")], register_jobs=[ring], register_events=[bike_sold]
)


@pytest.fixture
def shop(open_plugins, new_tenant):
    """A client of a tenant that has two plugins which work in the background, or has switched some off."""

    @asynccontextmanager
    async def open_one(*off):
        async with open_plugins(SYSTEM, BAKERY, BIKES) as runtime:
            tenant = await new_tenant(runtime)
            async with runtime.database.tenant(tenant.id) as db:
                for category in off:
                    await disable_category(db, category)
            async with client_of(runtime, tenant) as client:
                yield client

    return open_one


async def _call(client, tool, **arguments):
    return (await client.call_tool(tool, arguments)).structured_content


async def _names(client, **arguments):
    return [one["name"] for one in (await _call(client, "list_job_events", **arguments))["events"]]


async def test_events_and_jobs_are_listed_with_who_listens_and_what_starts_them(shop):
    async with shop() as client:
        found = await _call(client, "list_job_events", category="bakery")
        assert await _names(client, kind="event") == ["bakery.bread_baked", "bikes.bike_sold"]
        assert await _names(client, search="BELL") == ["bikes.ring"]
        assert await _names(client, search="bread", kind="job") == ["bakery.smell"]
    assert (found["categories"], found["total_count"], found["next_cursor"]) == (["bakery", "bikes"], 3, None)
    assert found["events"] == [
        {
            "name": "bakery.bread_baked",
            "kind": "event",
            "category": "bakery",
            "description": "A loaf came out of the oven.",
            "listeners": ["bakery.smell"],
            "listens_to": None,
            "schedule": None,
            "each_tenant": False,
        },
        {
            "name": "bakery.clean",
            "kind": "job",
            "category": "bakery",
            "description": "Clean the oven.",
            "listeners": [],
            "listens_to": None,
            "schedule": "0 3 * * *",
            "each_tenant": True,
        },
        {
            "name": "bakery.smell",
            "kind": "job",
            "category": "bakery",
            "description": "Tell everybody about fresh bread.",
            "listeners": [],
            "listens_to": "bakery.bread_baked",
            "schedule": None,
            "each_tenant": False,
        },
    ]


async def test_pages_show_everything_once(shop):
    seen, cursor = [], None
    async with shop() as client:
        while True:
            page = await _call(client, "list_job_events", limit=2, **({"cursor": cursor} if cursor else {}))
            seen += [one["name"] for one in page["events"]]
            if (cursor := page["next_cursor"]) is None:
                break
    assert seen == ["bakery.bread_baked", "bakery.clean", "bakery.smell", "bikes.bike_sold", "bikes.ring"]


async def test_what_belongs_to_a_plugin_that_is_off_is_not_there(shop):
    async with shop("bakery") as client:
        assert await _names(client) == ["bikes.bike_sold", "bikes.ring"]
        for tool in ("get_job_event_schema", "validate_job_payload"):
            more = {"payload": {}} if tool == "validate_job_payload" else {}
            result = await client.call_tool(tool, {"event_name": "bakery.clean", **more})
            assert "There is no event or job 'bakery.clean'" in result.content[0].text
            assert "bakery.clea`" not in result.content[0].text
        result = await client.call_tool("list_job_events", {"category": "bakery"})
        assert result.meta["mercato/error"]["allowed"] == ["bikes"]
        counted = await _call(client, "get_job_categories")
    assert counted == {
        "categories": [{"category": "bikes", "events": 1, "jobs": 1, "scheduled": 0}],
        "total_categories": 1,
        "total_events": 1,
        "total_jobs": 1,
    }


async def test_categories_are_counted(shop):
    async with shop() as client:
        counted = await _call(client, "get_job_categories")
    assert counted["categories"][0] == {"category": "bakery", "events": 1, "jobs": 2, "scheduled": 1}
    assert (counted["total_categories"], counted["total_events"], counted["total_jobs"]) == (2, 2, 3)


async def test_the_schema_says_what_a_payload_must_have_and_its_example_fits(shop):
    async with shop() as client:
        for name in ("bakery.bread_baked", "bakery.clean", "bakery.smell", "bikes.ring"):
            found = await _call(client, "get_job_event_schema", event_name=name)
            checked = await _call(client, "validate_job_payload", event_name=name, payload=found["example_payload"])
            assert checked == {"event_name": name, "kind": found["kind"], "valid": True, "errors": []}
        event = await _call(client, "get_job_event_schema", event_name="bakery.bread_baked")
    assert event["required_fields"] == ["loaf", "grams"]
    assert event["payload"]["properties"]["loaf"] == {
        "type": "string",
        "enum": ["rye", "wheat"],
        "description": "Which.",
    }
    assert event["listeners"] == ["bakery.smell"]


@pytest.mark.parametrize(
    ("name", "payload", "errors"),
    [
        ("bakery.bread_baked", {"loaf": "rye", "grams": 5}, {}),
        (
            "bakery.bread_baked",
            {"loaf": "spelt", "grams": 0},
            {"loaf": "must be 'rye' or 'wheat'", "grams": "must be at least 1"},
        ),
        ("bikes.ring", {}, {"times": "is missing"}),
        ("bikes.ring", {"times": "often", "more": 1}, {"times": "must be a whole number", "more": "is no field of it"}),
        ("bakery.clean", {}, {}),
        ("bakery.smell", {"event": {"data": {"loaf": "rye"}}}, {"event.data.grams": "is missing"}),
    ],
)
async def test_a_payload_is_checked_as_when_it_is_told_or_enqueued(shop, name, payload, errors):
    async with shop() as client:
        checked = await _call(client, "validate_job_payload", event_name=name, payload=payload)
    assert checked["valid"] is (not errors)
    assert errors.items() <= {error["field"]: error["reason"] for error in checked["errors"]}.items()


async def test_no_example_is_given_for_a_payload_whose_shape_the_event_decides(shop):
    async with shop() as client:
        for payload in ({"payload": "[]"}, {}):
            result = await client.call_tool("validate_job_payload", {"event_name": "bikes.ring", **payload})
            assert result.is_error
            assert "example" not in result.content[0].text.lower()
        result = await client.call_tool("validate_job_payload", {"event_name": "", "payload": {"times": 3}})
    assert result.meta["mercato/error"]["example"]["payload"] == {"times": 3}


async def test_a_payload_that_is_too_large_is_not_valid(shop):
    @job("bikes.write")
    async def write(ctx, text: str) -> None:
        """Write."""

    assert [fault.field for fault in write.faults({"text": "x" * 70_000})] == ["payload"]


async def test_a_name_that_there_is_not_is_answered_with_the_nearest(shop):
    async with shop() as client:
        result = await client.call_tool("get_job_event_schema", {"event_name": "bakery.breadbaked"})
    assert result.is_error
    assert "Did you mean `bakery.bread_baked`?" in result.content[0].text
    assert result.meta["mercato/error"]["field"] == "event_name"


async def test_a_job_and_an_event_cannot_have_one_name(open_plugins):
    @job("bikes.bike_sold")
    async def other(ctx) -> None:
        """Be called as the event is."""

    wrong = plugin("bikes", register_jobs=[other], register_events=[bike_sold])
    async with open_plugins(wrong, strict=False) as runtime:
        [failure] = runtime.plugins.failures
    assert "the job or event 'bikes.bike_sold' is already contributed by bikes" in failure.reason
