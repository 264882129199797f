from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from tests.plugins.commerce.answers import ask, every_page, refusal
from tests.plugins.commerce.factory import add_customer, add_order

DAY = datetime(2026, 3, 10, 12, tzinfo=UTC)


async def test_a_listed_customer_has_contact_counters_and_consent(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(
            db, email="ada@example.com", phone="+49 1", orders_count=2, total_spent_minor=500, created_at=DAY
        )
    answer = await ask(mcp, "list_customers")
    assert answer["customers"] == [
        {
            "id": customer.id,
            "email": "ada@example.com",
            "name": "Ada Lovelace",
            "phone": "+49 1",
            "orders_count": 2,
            "total_spent_minor": 500,
            "currency": "USD",
            "accepts_marketing": False,
            "created_at": "2026-03-10T12:00:00Z",
        }
    ]
    assert (answer["total_count"], answer["next_cursor"]) == (1, None)


async def test_any_mix_of_filters_finds_what_a_plain_filter_finds(mcp, database, tenant):
    rows = []
    async with database.tenant(tenant.id) as db:
        for marketing, count, spent in itertools.product((False, True), (0, 1, 3), (0, 1000)):
            row = {"accepts_marketing": marketing, "orders_count": count, "total_spent_minor": spent}
            rows.append({**row, "id": (await add_customer(db, **row, created_at=DAY)).id})
    for marketing, count, spent in itertools.product((None, False, True), (None, 0, 1, 4), (None, 0, 1000)):
        wanted = {"accepts_marketing": marketing, "min_orders": count, "min_spent_minor": spent}
        expected = [
            row["id"]
            for row in reversed(rows)
            if marketing in (None, row["accepts_marketing"])
            and row["orders_count"] >= (count or 0)
            and row["total_spent_minor"] >= (spent or 0)
        ]
        asked = {name: value for name, value in wanted.items() if value is not None}
        answer = await ask(mcp, "list_customers", limit=25, **asked)
        assert [row["id"] for row in answer["customers"]] == expected, asked
        assert answer["total_count"] == len(expected)


async def test_pages_visit_every_customer_once(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        ids = [(await add_customer(db, created_at=DAY)).id for _ in range(11)]
    assert await every_page(mcp, "list_customers", "customers", limit=4) == ids[::-1]


async def test_a_bound_beyond_any_counter_finds_nobody(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        await add_customer(db)
    assert (await ask(mcp, "list_customers", min_orders=2**53 - 1))["total_count"] == 0
    assert "`min_orders`" in await refusal(mcp, "list_customers", min_orders=-1)


async def test_search_looks_at_email_names_and_phone_and_puts_the_best_customers_first(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        small = await add_customer(db, first_name="Grace", last_name="Hopper", total_spent_minor=100)
        large = await add_customer(db, first_name="Hop", last_name="Gracer", total_spent_minor=900)
        mailed = await add_customer(db, email="g_race%@example.com", total_spent_minor=500)
        phoned = await add_customer(db, phone="+1 555 0100", first_name=None, last_name=None)
    expected = {
        "GRACE": [large.id, small.id],
        "grace hop": [small.id],
        "g_race%": [mailed.id],
        "555 01": [phoned.id],
        "nobody": [],
    }
    for query, ids in expected.items():
        answer = await ask(mcp, "search_customers", query=query)
        assert [row["id"] for row in answer["customers"]] == ids, query
        assert answer["total_count"] == len(ids)


async def test_found_customers_come_in_pages_at_equal_spend(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        pairs = [(n // 3, (await add_customer(db, total_spent_minor=n // 3)).id) for n in range(10)]
    expected = [number for _, number in sorted(pairs, reverse=True)]
    assert await every_page(mcp, "search_customers", "customers", query="ada", limit=2) == expected


async def test_a_customer_is_read_in_full(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(
            db,
            external_id="gid://1",
            email="ada@example.com",
            orders_count=1,
            total_spent_minor=700,
            default_address={"address1": "Main St 1", "city": "Bonn"},
            tags=["vip"],
            note="likes\u200b tea",
        )
    answer = await ask(mcp, "get_customer", customer_id=customer.id)
    assert answer["name"] == {"first": "Ada", "last": "Lovelace", "full": "Ada Lovelace"}
    assert answer["stats"] == {"orders_count": 1, "total_spent_minor": 700, "currency": "USD"}
    assert answer["marketing"] == {"accepts_marketing": False}
    assert answer["default_address_untrusted"]["city"] == "Bonn"
    assert (answer["notes_untrusted"], answer["tags"], answer["external_id"]) == ("likes tea", ["vip"], "gid://1")


async def test_a_customers_orders_are_counted_and_come_newest_first(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(db, email="ada@example.com", orders_count=9, total_spent_minor=700)
        ids = [(await add_order(db, customer_id=customer.id, placed_at=DAY + timedelta(days=n))).id for n in range(5)]
        await add_order(db)
    answer = await ask(mcp, "get_customer_orders", customer_id=customer.id, limit=2)
    assert answer["customer"] == {
        "id": customer.id,
        "email": "ada@example.com",
        "name": "Ada Lovelace",
        "total_orders": 9,
        "total_spent_minor": 700,
        "currency": "USD",
    }
    assert answer["total_count"] == 5
    pages = await every_page(mcp, "get_customer_orders", "orders", customer_id=customer.id, limit=2)
    assert pages == ids[::-1]


@pytest.mark.parametrize("tool", ["get_customer", "get_customer_orders"])
async def test_a_customer_who_is_not_there_is_said_so(mcp, tool):
    text = await refusal(mcp, tool, customer_id=7654321)
    assert text == "There is no customer 7654321. Find its id with `search_customers`."
