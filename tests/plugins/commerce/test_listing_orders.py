from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mercato.tenancy.onboarding import onboard_tenant
from tests.plugins.commerce.answers import ask, every_page, refusal
from tests.plugins.commerce.factory import add_customer, add_order, add_product

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


async def test_a_listed_order_has_its_number_statuses_money_items_and_times(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        _, [shirt, cap] = await add_product(db, 5, 5)
        customer = await add_customer(db)
        order = await add_order(
            db, (shirt, 2), (cap, 1), number="#1", customer_id=customer.id, total_minor=4999, placed_at=NOON
        )
    answer = await ask(mcp, "list_orders")
    [row] = answer["orders"]
    assert row.pop("created_at").endswith("Z")
    assert row == {
        "id": order.id,
        "order_number": "#1",
        "customer_id": customer.id,
        "customer_email": "ada@example.com",
        "status": "pending",
        "fulfillment_status": "unfulfilled",
        "financial_status": "pending",
        "total_minor": 4999,
        "currency": "USD",
        "items_count": 3,
        "placed_at": "2026-03-10T12:00:00Z",
        "placed_at_local": "2026-03-10T12:00:00Z",
    }
    assert (answer["total_count"], answer["next_cursor"], answer["timezone"]) == (1, None, "UTC")


FILTERS = {
    "status": ("pending", "shipped"),
    "fulfillment_status": ("unfulfilled", "fulfilled"),
    "financial_status": ("pending", "paid"),
    "customer_email": ("ada@example.com", "Grace@Example.com"),
    "date_from": (date(2026, 3, 10),),
    "date_to": (date(2026, 3, 10),),
}
FIELDS = ("status", "fulfillment_status", "financial_status", "customer_email")


def _matches(row: dict, wanted: dict) -> bool:
    equal = all(row[name].lower() == wanted[name].lower() for name in FIELDS if name in wanted)
    day = row["placed_at"].date()
    return equal and wanted.get("date_from", day) <= day <= wanted.get("date_to", day)


async def test_any_mix_of_filters_finds_what_a_plain_filter_finds(mcp, database, tenant):
    rows = []
    async with database.tenant(tenant.id) as db:
        for number, values in enumerate(itertools.product(*(FILTERS[name] for name in FIELDS))):
            row = dict(zip(FIELDS, values, strict=True)) | {"placed_at": NOON + timedelta(days=number % 3 - 1)}
            order = await add_order(db, **{"email" if k == "customer_email" else k: v for k, v in row.items()})
            rows.append({**row, "id": order.id})
    rows.sort(key=lambda row: (row["placed_at"], row["id"]), reverse=True)
    for chosen in itertools.product((False, True), repeat=len(FILTERS)):
        names = list(itertools.compress(FILTERS, chosen))
        for values in itertools.product(*(FILTERS[name] for name in names)):
            wanted = dict(zip(names, values, strict=True))
            asked = {name: str(value) for name, value in wanted.items()}
            expected = [row["id"] for row in rows if _matches(row, wanted)]
            answer = await ask(mcp, "list_orders", limit=25, **asked)
            assert [row["id"] for row in answer["orders"]] == expected, asked
            assert answer["total_count"] == len(expected)


async def test_pages_visit_every_order_once_even_at_equal_times(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        placed = [(NOON - timedelta(hours=number // 9), await add_order(db)) for number in range(23)]
        for at, order in placed:
            order.placed_at = at
    newest_first = [order.id for at, order in sorted(placed, key=lambda pair: (pair[0], pair[1].id), reverse=True)]
    for limit in (1, 4, 10, 25):
        assert await every_page(mcp, "list_orders", "orders", limit=limit) == newest_first
    assert (await ask(mcp, "list_orders", limit=4))["total_count"] == 23


async def test_orders_that_come_between_two_pages_neither_repeat_nor_hide_others(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        ids = [(await add_order(db, placed_at=NOON - timedelta(minutes=n))).id for n in range(6)]
    first = await ask(mcp, "list_orders", limit=3)
    async with database.tenant(tenant.id) as db:
        await add_order(db, placed_at=NOON + timedelta(minutes=1))
    second = await ask(mcp, "list_orders", limit=3, cursor=first["next_cursor"])
    assert [row["id"] for row in first["orders"] + second["orders"]] == ids


async def test_days_are_those_of_the_tenants_time_zone_and_the_last_one_is_included(runtime, mcp_for):
    tenant = await onboard_tenant(
        runtime.database, "fiji", "Fiji", owner_email="ada@fiji.example", timezone="Pacific/Auckland",
        categories=runtime.catalog.categories,
    )  # fmt: skip
    zone = ZoneInfo("Pacific/Auckland")
    edges = [datetime(2026, 4, 5, 0, 0, tzinfo=zone), datetime(2026, 4, 5, 23, 59, 59, 999999, tzinfo=zone)]
    outside = [edges[0] - timedelta(microseconds=1), datetime(2026, 4, 6, tzinfo=zone)]
    async with runtime.database.tenant(tenant.id) as db:
        inside = [(await add_order(db, placed_at=at.astimezone(UTC))).id for at in edges]
        for at in outside:
            await add_order(db, placed_at=at.astimezone(UTC))
    async with mcp_for(tenant) as client:
        answer = await ask(client, "list_orders", date_from="2026-04-05", date_to="2026-04-05")
    assert sorted(row["id"] for row in answer["orders"]) == sorted(inside)
    assert answer["timezone"] == "Pacific/Auckland"
    # Clocks went back on that day: it had 25 hours.
    local = sorted(row["placed_at_local"] for row in answer["orders"])
    assert local == ["2026-04-05T00:00:00+13:00", "2026-04-05T23:59:59.999999+12:00"]


@pytest.mark.parametrize("day", ["2026-02-30", "0001-01-01", "9999-12-31", "1700000000", "tomorrow", "2026-1-2"])
async def test_a_day_that_is_none_is_refused_with_the_form(mcp, day):
    text = await refusal(mcp, "list_orders", date_from=day)
    assert "`date_from`" in text
    assert "2026-01-31" in text


async def test_a_first_day_after_the_last_is_refused(mcp):
    text = await refusal(mcp, "list_orders", date_from="2026-02-02", date_to="2026-02-01")
    assert text == "`date_from` (2026-02-02) is after `date_to` (2026-02-01). Exchange the two."


async def test_a_cursor_fits_only_the_listing_it_was_made_for(mcp, other_mcp, database, tenant, other_tenant):
    for one in (tenant, other_tenant):
        async with database.tenant(one.id) as db:
            for _ in range(3):
                await add_order(db)
    cursor = (await ask(mcp, "list_orders", limit=1))["next_cursor"]
    assert (await ask(mcp, "list_orders", limit=2, cursor=cursor))["orders"]
    for client, tool, filters in (
        (mcp, "list_orders", {"status": "pending"}),
        (mcp, "search_orders", {"query": "ada"}),
        (mcp, "list_customers", {}),
        (other_mcp, "list_orders", {}),
    ):
        text = await refusal(client, tool, cursor=cursor, **filters)
        assert "`cursor`" in text
        assert "Start again without it." in text


PRINTABLE = st.text("".join(chr(code) for code in range(32, 127)), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 500), instead=PRINTABLE, made_up=st.none() | st.text(max_size=210))
async def test_a_cursor_that_was_made_up_is_a_page_or_a_clear_refusal(mcp, database, tenant, place, instead, made_up):
    async with database.tenant(tenant.id) as db:
        await add_order(db)
        await add_order(db)
    real = (await ask(mcp, "list_orders", limit=1))["next_cursor"]
    place %= len(real)
    cursor = real[:place] + instead + real[place + 1 :] if made_up is None else made_up
    result = await mcp.call_tool("list_orders", {"cursor": cursor})
    assert not result.is_error or "`cursor`" in result.content[0].text


@pytest.mark.parametrize("limit", [0, 26, 1.5, "many"])
async def test_a_limit_out_of_bounds_is_refused(mcp, limit):
    assert "`limit`" in await refusal(mcp, "list_orders", limit=limit)


async def test_search_looks_at_number_email_customer_and_notes_in_any_case(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(db, first_name="Grace", last_name="Hopper")
        found = {
            "#A-77": (await add_order(db, number="#A-77")).id,
            "BOB@EXAMPLE": (await add_order(db, email="bob@example.com")).id,
            "grace hop": (await add_order(db, customer_id=customer.id)).id,
            "gift wrap": (await add_order(db, customer_note="Please GIFT WRAP it")).id,
            "call back": (await add_order(db, staff_notes="must call back")).id,
        }
    for query, order_id in found.items():
        answer = await ask(mcp, "search_orders", query=query)
        assert [row["id"] for row in answer["orders"]] == [order_id], query
        assert answer["total_count"] == 1
    assert (await ask(mcp, "search_orders", query="nobody"))["orders"] == []


async def test_percent_and_underscore_are_plain_characters_in_a_search(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, staff_notes="10% off_er / now \\ here")
        await add_order(db, staff_notes="10 offer")
    for query in ("10%", "off_er", "r / n", "\\", "%", "_"):
        assert [row["id"] for row in (await ask(mcp, "search_orders", query=query))["orders"]] == [order.id], query


@pytest.mark.parametrize("query", ["", "   ", "x" * 201])
async def test_a_search_for_nothing_or_for_a_novel_is_refused(mcp, query):
    assert "`query`" in await refusal(mcp, "search_orders", query=query)


async def test_found_orders_come_in_pages_too(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        ids = [(await add_order(db, number=f"#find-{n}", placed_at=NOON)).id for n in range(7)]
        await add_order(db)
    assert await every_page(mcp, "search_orders", "orders", query="find", limit=2) == ids[::-1]
