"""The demo store: the same every time, and nothing in it contradicts anything else."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from mercato.plugins.commerce.bulk.staging import fetch, run
from mercato.plugins.commerce.demo import DEMO_STORE, NotEmpty, open_store
from mercato.plugins.importers import ImportContext
from mercato.tenancy.tenants import create_tenant

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=UTC)
CONTENT = {
    "customers": "external_id, email, first_name, last_name, orders_count, total_spent_minor, currency, created_at",
    "products": "handle, title, status, tags, options::text",
    "variants": "sku, price_minor, inventory_quantity, position",
    "stock_movements": "at, change, quantity_after, reason",
    "orders": "number, status, financial_status, total_minor, refunded_minor, placed_at, fulfilled_at, customer_note",
    "order_lines": "title, position, quantity, price_minor, fulfillment_status",
}
# Each counts what must not be.
CONTRADICTIONS = {
    "totals add up": "orders where total_minor <> subtotal_minor - discount_minor + shipping_minor + tax_minor",
    "lines add up": """orders o where subtotal_minor <> (
        select sum(quantity * price_minor) from commerce.order_lines l where l.order_id = o.id)""",
    "no more is refunded than was paid": "orders where refunded_minor > total_minor or refunded_minor < 0",
    "nothing is negative": """orders where least(subtotal_minor, discount_minor, shipping_minor, tax_minor,
        total_minor, subtotal_minor - discount_minor) < 0""",
    "refunded is refunded": """orders where (financial_status = 'refunded')
        <> (refunded_minor = total_minor and total_minor > 0)""",
    "in part is in part": """orders where (financial_status = 'partially_refunded')
        <> (refunded_minor > 0 and refunded_minor < total_minor)""",
    "cancelled has a time": "orders where (status = 'cancelled') <> (cancelled_at is not null)",
    "cancelled has a reason": "orders where (status = 'cancelled') <> (cancel_reason is not null)",
    "cancelled is not sent": "orders where status = 'cancelled' and fulfillment_status <> 'unfulfilled'",
    "fulfilled has a time": "orders where (fulfillment_status = 'fulfilled') <> (fulfilled_at is not null)",
    "sent is fulfilled": """orders where (status in ('shipped', 'delivered', 'refunded'))
        <> (fulfillment_status = 'fulfilled')""",
    "partly sent is in work": "orders where fulfillment_status = 'partial' and status <> 'processing'",
    "unpaid is not sent": """orders where financial_status in ('pending', 'authorized', 'voided')
        and fulfilled_at is not null""",
    "lines are sent as the order": """orders o where fulfillment_status <> (
        select case when bool_and(fulfillment_status = 'fulfilled') then 'fulfilled'
                    when bool_or(fulfillment_status = 'fulfilled') then 'partial' else 'unfulfilled' end
        from commerce.order_lines l where l.order_id = o.id)""",
    "times follow one another": "orders where least(fulfilled_at, cancelled_at) < placed_at",
    "nothing is in the future": "orders where greatest(placed_at, fulfilled_at, cancelled_at) > '2026-03-10 15:30Z'",
    "old ones have arrived": """orders where placed_at < '2026-02-01'
        and status not in ('delivered', 'cancelled', 'refunded')""",
    "new ones are not sent": "orders where placed_at > '2026-03-08 12:00Z' and fulfillment_status <> 'unfulfilled'",
    "everyone is known": "orders where customer_id is null",
    "addresses are the customers'": """orders o join commerce.customers c on c.id = o.customer_id
        where o.email is distinct from c.email or o.currency <> c.currency""",
    "nobody is younger than their order": """orders o join commerce.customers c on c.id = o.customer_id
        where o.placed_at < c.created_at""",
    "lines are of the shelf": "order_lines where variant_id is null or product_id is null",
    "orders are counted": """customers c where orders_count <> (
        select count(*) from commerce.orders o where o.customer_id = c.id and status <> 'cancelled')""",
    "what was spent is counted": """customers c where total_spent_minor <> (
        select coalesce(sum(total_minor - refunded_minor), 0) from commerce.orders o
        where o.customer_id = c.id and status <> 'cancelled' and o.currency = c.currency)""",
    "the ledger ends at the stock": """variants v where inventory_quantity <> coalesce((
        select quantity_after from commerce.stock_movements m
        where m.variant_id = v.id order by at desc limit 1), 0)""",
    "the ledger adds up": """variants v where inventory_quantity <> coalesce((
        select sum(change) from commerce.stock_movements m where m.variant_id = v.id), 0)""",
    "six variants at most": "(select count(*) as n from commerce.variants group by product_id) v where n > 6",
}


@pytest.fixture(scope="module")
async def store(runtime):
    """A tenant that has the store."""
    tenant = await create_tenant(runtime.database, "kestrel", "Kestrel", timezone="America/New_York")
    report = await open_store(context_of(runtime.database, tenant), NOW)
    return tenant, report


def context_of(database, tenant) -> ImportContext:
    return ImportContext(tenant=tenant, progress=lambda *_: None, _database=database)


async def rows(database, tenant, statement: str):
    async with database.tenant(tenant.id) as db:
        return await fetch(db.session, statement)


async def content(database, tenant):
    return {
        table: Counter(await rows(database, tenant, f"select ({columns})::text from commerce.{table}"))
        for table, columns in CONTENT.items()
    }


async def test_it_has_what_it_says(store):
    _, report = store
    assert report.counts["products_new"] == 120
    assert report.counts["customers_new"] == 2_000
    assert report.counts["orders_new"] == 12_000
    assert report.counts["variants_new"] > 400
    assert report.counts["lines_new"] > 24_000


@pytest.mark.parametrize("what", CONTRADICTIONS)
async def test_nothing_contradicts_anything(store, database, what: str):
    tenant, _ = store
    source = CONTRADICTIONS[what]
    table = source if source.startswith("(") else f"commerce.{source}"
    assert await rows(database, tenant, f"select count(*) from {table}") == [(0,)]


async def test_every_status_and_currency_occurs(store, database):
    tenant, _ = store
    counted = await rows(database, tenant, "select status, currency, count(*) from commerce.orders group by 1, 2")
    assert {status for status, _, _ in counted} == {
        *("pending", "confirmed", "processing", "shipped", "delivered", "cancelled", "refunded"),
    }
    by_currency = Counter()
    for _, currency, count in counted:
        by_currency[currency] += count
    assert by_currency["USD"] > 10_000
    assert min(by_currency["JPY"], by_currency["KWD"]) > 50


async def test_it_has_the_odd_ones_that_shops_have(store, database):
    tenant, _ = store
    one = {
        "an order of forty lines": "(select order_id from commerce.order_lines group by 1 having count(*) = 40) o",
        "an order for nothing": "commerce.orders where total_minor = 0",
        "a note that gives orders": "commerce.orders where customer_note ilike 'ignore previous instructions and %'",
    }
    for what, source in one.items():
        assert await rows(database, tenant, f"select count(*) from {source}") == [(1,)], what
    some = {
        "people without an address": "commerce.customers where email is null",
        "people who never bought": "commerce.customers where orders_count = 0",
        "empty shelves": "commerce.variants where inventory_quantity = 0 and inventory_tracked",
        "shelves that get low": "commerce.variants where inventory_quantity between 1 and 4",
        "other scripts": "commerce.customers where first_name ~ '[ぁ-んァ-ン一-龯ء-ي]'",
        "the last 30 days": "commerce.orders where placed_at > '2026-02-10'",
    }
    for what, source in some.items():
        [(count,)] = await rows(database, tenant, f"select count(*) from {source}")
        assert count > 0, what


async def test_the_shop_grows_and_has_its_seasons(store, database):
    tenant, _ = store
    months = dict(
        await rows(database, tenant, "select to_char(placed_at, 'YYYY-MM'), count(*) from commerce.orders group by 1")
    )
    assert months["2026-01"] > 1.2 * months["2025-01"]
    assert months["2025-12"] > 1.4 * months["2025-08"]


async def test_the_same_seed_and_day_make_the_same_store(store, database, tenant, other_tenant):
    first, _ = store
    later = datetime(2026, 3, 10, 23, 0, tzinfo=UTC)
    same = await create_tenant(database, "kestrel-again", "Again", timezone=first.timezone)
    await open_store(context_of(database, same), later)
    assert await content(database, same) == await content(database, first)
    await open_store(context_of(database, tenant), NOW, seed=7)
    assert (await content(database, tenant))["orders"] != (await content(database, first))["orders"]


async def test_a_second_run_changes_nothing(store, database):
    tenant, _ = store
    before = await rows(database, tenant, "select id, updated_at from commerce.orders order by id")
    report = await DEMO_STORE.run(context_of(database, tenant), {})
    assert not any(report.counts.values())
    assert await rows(database, tenant, "select id, updated_at from commerce.orders order by id") == before


async def test_a_tenant_that_has_data_of_its_own_is_left_alone(database, tenant):
    async with database.tenant(tenant.id) as db:
        await run(db.session, "insert into commerce.customers (email, currency) values ('a@example.com', 'USD')")
    with pytest.raises(NotEmpty, match="has data of its own: the demo store needs an empty one"):
        await DEMO_STORE.run(context_of(database, tenant), {})
    assert await rows(database, tenant, "select count(*) from commerce.orders") == [(0,)]


async def test_a_store_in_another_currency_and_zone_adds_up_too(database):
    tenant = await create_tenant(database, "kestrel-kyoto", "Kyoto", currency="JPY", timezone="Asia/Tokyo")
    await open_store(context_of(database, tenant), NOW)
    wrong = CONTRADICTIONS["totals add up"]
    assert await rows(database, tenant, f"select count(*) from commerce.{wrong}") == [(0,)]
    assert await rows(database, tenant, "select max(placed_at) < '2026-03-10 15:00Z' from commerce.orders") == [(True,)]
