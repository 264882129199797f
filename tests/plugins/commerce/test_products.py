from __future__ import annotations

import itertools
from datetime import UTC, datetime

import anyio
import pytest

from tests.plugins.commerce.answers import ask, every_page, refusal
from tests.plugins.commerce.factory import add_product, add_variant, stored

DAY = datetime(2026, 3, 10, 12, tzinfo=UTC)


async def test_a_listed_product_has_the_price_of_its_cheapest_variant_and_all_stock(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, title="Shirt", handle="shirt", image_urls=["https://a/1.jpg", "https://a/2"])
        await add_variant(db, product, 1, 4, price_minor=3000)
        await add_variant(db, product, 2, 3, price_minor=2000, compare_at_price_minor=2500)
        await add_variant(db, product, 3, None, price_minor=4000)
    [row] = (await ask(mcp, "list_products"))["products"]
    assert row.pop("created_at").endswith("Z")
    assert row == {
        "id": product.id,
        "title": "Shirt",
        "handle": "shirt",
        "vendor": None,
        "product_type": None,
        "status": "active",
        "price_minor": 2000,
        "compare_at_price_minor": 2500,
        "currency": "USD",
        "inventory_quantity": 7,
        "featured_image_url": "https://a/1.jpg",
        "variants_count": 3,
    }


async def test_a_product_without_variants_or_stock_is_listed_too(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        await add_product(db)
        await add_product(db, None)
    untracked, bare = (await ask(mcp, "list_products"))["products"]
    assert (bare["price_minor"], bare["inventory_quantity"], bare["variants_count"]) == (None, None, 0)
    assert (untracked["price_minor"], untracked["inventory_quantity"], untracked["variants_count"]) == (1000, None, 1)


async def test_any_mix_of_filters_finds_what_a_plain_filter_finds(mcp, database, tenant):
    rows = []
    stocks = ((), (0,), (0, 3), (None,))
    async with database.tenant(tenant.id) as db:
        for status, vendor, kind, stock in itertools.product(
            ("draft", "active"), ("Acme", None), ("Hat", "Cap"), stocks
        ):
            product, _ = await add_product(
                db, *stock, status=status, vendor=vendor, product_type=kind, title=f"My {kind}", created_at=DAY
            )
            has_stock = any(one is None or one > 0 for one in stock)
            row = {"status": status, "vendor": vendor, "product_type": kind, "in_stock": has_stock}
            rows.append({**row, "query": kind, "id": product.id})
    choices = {
        "status": (None, "draft", "archived"),
        "vendor": (None, "ACME"),
        "product_type": (None, "hat"),
        "in_stock": (None, True, False),
        "query": (None, "my cap"),
    }
    for values in itertools.product(*choices.values()):
        asked = {name: value for name, value in zip(choices, values, strict=True) if value is not None}
        plain = {
            name: {"ACME": "Acme", "hat": "Hat", "my cap": "Cap"}.get(value, value) for name, value in asked.items()
        }
        expected = [row["id"] for row in reversed(rows) if all(row[name] == value for name, value in plain.items())]
        answer = await ask(mcp, "list_products", limit=25, **asked)
        assert [row["id"] for row in answer["products"]] == expected[:25], asked
        assert answer["total_count"] == len(expected)


async def test_a_product_is_found_by_its_title_handle_or_sku(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, title="Blue 100% Shirt", handle="blue-shirt")
        await add_variant(db, product, 1, 1, sku="BS_1")
        await add_product(db, 1, title="Other")
    for query in ("100%", "BLUE-sh", "bs_1"):
        assert [row["id"] for row in (await ask(mcp, "list_products", query=query))["products"]] == [product.id], query


async def test_pages_visit_every_product_once(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        ids = [(await add_product(db, 1, created_at=DAY))[0].id for _ in range(9)]
    assert await every_page(mcp, "list_products", "products", limit=4) == ids[::-1]


async def test_a_product_is_read_in_short_and_in_full(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [first, second] = await add_product(
            db,
            3,
            None,
            description="d" * 700,
            image_urls=["https://a/1.jpg", "https://a/2.jpg"],
            options=[{"name": "Size", "values": ["S", "M"]}],
            seo_title="Seo",
            tags=["new"],
        )
    short = await ask(mcp, "get_product", product_id=product.id)
    assert (len(short["description"]), short["description_length"]) == (500, 700)
    assert short["images"] == {"featured": "https://a/1.jpg", "all": [], "count": 2}
    assert short["inventory"] == {"quantity": 3, "policy": "deny"}
    assert short["pricing"]["price_minor"] == 1000
    assert short["options"] == [{"name": "Size", "values": ["S", "M"]}]
    assert [variant["id"] for variant in short["variants"]] == [first.id, second.id]
    assert (short["seo"], short["tags"]) == ({"title": "Seo", "description": None}, ["new"])
    full = await ask(mcp, "get_product", product_id=product.id, detail="full")
    assert (len(full["description"]), len(full["images"]["all"])) == (700, 2)


async def test_many_variants_come_in_pages(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, variants = await add_product(db, *([1] * 30))
    first = await ask(mcp, "get_product", product_id=product.id)
    second = await ask(mcp, "get_product", product_id=product.id, cursor=first["next_cursor"])
    shown = [variant["id"] for page in (first, second) for variant in page["variants"]]
    assert shown == [variant.id for variant in variants]
    assert first["variants_count"] == 30


@pytest.mark.parametrize("tool", ["get_product", "update_product", "update_inventory", "get_inventory"])
async def test_a_product_that_is_not_there_is_said_so(mcp, tool):
    arguments = {"update_product": {"title": "x"}, "update_inventory": {"quantity": 1}}
    text = await refusal(mcp, tool, product_id=7654321, **arguments.get(tool, {}))
    assert text == "There is no product 7654321. Find its id with `list_products`."


async def test_an_edit_reports_only_what_really_changed_with_old_and_new(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, title="Old", vendor="Acme", description="text", seo_title="Seo")
    answer = await ask(
        mcp,
        "update_product",
        product_id=product.id,
        title="New",
        vendor="Acme",
        description="",
        seo_title="",
        product_type="",
        status="archived",
    )
    assert answer["updated_fields"] == [
        {"field": "title", "old": "Old", "new": "New"},
        {"field": "description", "old": "text", "new": ""},
        {"field": "status", "old": "active", "new": "archived"},
        {"field": "seo_title", "old": "Seo", "new": None},
    ]
    assert answer["product"]["title"] == "New"
    row = await stored(database, tenant, product)
    assert (row.title, row.description, row.status, row.seo_title, row.vendor) == ("New", "", "archived", None, "Acme")
    assert row.updated_at > product.updated_at


async def test_an_edit_that_changes_nothing_leaves_the_product_as_it_was(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, title="Same")
    answer = await ask(mcp, "update_product", product_id=product.id, title=" Same ")
    assert answer["updated_fields"] == []
    assert (await stored(database, tenant, product)).updated_at == product.updated_at


async def test_an_edit_needs_a_field_and_a_title_that_is_not_blank(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db)
    text = await refusal(mcp, "update_product", product_id=product.id)
    assert text.startswith("Nothing to change was given. Give at least one of title, description, status,")
    assert "`title`" in await refusal(mcp, "update_product", product_id=product.id, title=" ")
    assert "draft, active, archived" in await refusal(mcp, "update_product", product_id=product.id, status="gone")


async def test_edits_at_once_both_count_and_each_sees_the_others(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, title="0")
    olds = []

    async def edit(title: str) -> None:
        answer = await ask(mcp, "update_product", product_id=product.id, title=title)
        olds.append(answer["updated_fields"][0]["old"])

    async with anyio.create_task_group() as tasks:
        for title in "123456":
            tasks.start_soon(edit, title)
    last = (await stored(database, tenant, product)).title
    assert sorted([*olds, last]) == list("0123456")
