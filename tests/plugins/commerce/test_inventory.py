from __future__ import annotations

import itertools

import anyio
import pytest

from mercato.tenancy.access import merge_settings
from mercato.tenancy.job_runs import read_runs
from tests.plugins.commerce.answers import ask, every_page, refusal
from tests.plugins.commerce.factory import add_product, add_variant, movements, stored


async def test_stock_is_listed_lowest_first_and_marked_by_the_tenants_threshold(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        (much, _), (none, _), (some, _) = [await add_product(db, *stock) for stock in ((30, 20), (0,), (6, 5, None))]
        await add_product(db, None)
        await add_product(db)
    answer = await ask(mcp, "get_inventory")
    rows = [(row["id"], row["total_inventory"], row["low_stock"]) for row in answer["inventory"]]
    assert rows == [(none.id, 0, True), (some.id, 11, False), (much.id, 50, False)]
    assert (answer["low_stock_threshold"], answer["total_count"]) == (10, 3)
    assert answer["inventory"][1]["product_id"] == some.id
    assert answer["inventory"][1]["variants_count"] == 3
    assert answer["inventory"][1]["variants"] is None


async def test_the_threshold_is_what_the_tenant_has_set(mcp_for, database, tenant):
    async with database.tenant(tenant.id) as db:
        await merge_settings(db, "commerce", {"low_stock_threshold": 2})
        await add_product(db, 2)
        await add_product(db, 3)
    async with mcp_for(tenant) as mcp:
        answer = await ask(mcp, "get_inventory")
    assert [row["low_stock"] for row in answer["inventory"]] == [True, False]
    assert answer["low_stock_threshold"] == 2


async def test_any_mix_of_filters_finds_what_a_plain_filter_finds(mcp, database, tenant):
    rows = []
    async with database.tenant(tenant.id) as db:
        for stock, status in itertools.product((0, 3, 12), ("draft", "active")):
            rows.append({"id": (await add_product(db, stock, status=status))[0].id, "stock": stock, "status": status})
    for product, most, status in itertools.product((None, rows[3]["id"]), (None, 0, 3), (None, "draft", "archived")):
        expected = [
            row["id"]
            for row in rows
            if product in (None, row["id"])
            and (most is None or row["stock"] <= most)
            and status in (None, row["status"])
        ]
        wanted = {"product_id": product, "low_stock_threshold": most, "status": status}
        answer = await ask(mcp, "get_inventory", **{name: one for name, one in wanted.items() if one is not None})
        assert [row["id"] for row in answer["inventory"]] == expected, wanted
        assert answer["total_count"] == len(expected)
        assert answer["low_stock_threshold"] == (10 if most is None else most)


async def test_variants_are_shown_when_asked_for_lowest_first(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [large, small, _] = await add_product(db, 9, 2, None)
    [row] = (await ask(mcp, "get_inventory", product_id=product.id, variants=True))["inventory"]
    assert [(one["id"], one["inventory_quantity"]) for one in row["variants"]] == [(small.id, 2), (large.id, 9)]


async def test_policies_that_differ_are_mixed(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, 1)
        await add_variant(db, product, 2, 1, inventory_policy="continue")
    assert (await ask(mcp, "get_inventory"))["inventory"][0]["inventory_policy"] == "mixed"


async def test_pages_visit_every_product_once_at_equal_stock(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        pairs = [(n % 3, (await add_product(db, n % 3))[0].id) for n in range(10)]
    expected = [number for _, number in sorted(pairs)]
    assert await every_page(mcp, "get_inventory", "inventory", limit=3) == expected


async def test_a_product_whose_stock_is_not_tracked_is_said_to_be_so(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [variant] = await add_product(db, None)
    assert "has no tracked variant" in await refusal(mcp, "get_inventory", product_id=product.id)
    text = await refusal(mcp, "update_inventory", product_id=product.id, quantity=3)
    assert text == f"The stock of variant {variant.id} (Size 1) is not tracked."


async def test_a_set_stock_is_reported_and_kept_in_the_ledger(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [variant] = await add_product(db, 5)
    answer = await ask(mcp, "update_inventory", product_id=product.id, quantity=12, reason="counted")
    assert answer["inventory"] == {"previous": 5, "new": 12, "change": 7}
    assert (answer["product"]["id"], answer["variant"]["id"], answer["reason"]) == (product.id, variant.id, "counted")
    [line] = await movements(database, tenant)
    assert (line.variant_id, line.change, line.quantity_after, line.reason) == (variant.id, 7, 12, "counted")
    assert line.user_id is not None
    assert (await stored(database, tenant, variant)).inventory_quantity == 12


async def test_an_adjustment_counts_from_the_present_stock(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, 5)
    answer = await ask(mcp, "update_inventory", product_id=product.id, adjustment=-2)
    assert answer["inventory"] == {"previous": 5, "new": 3, "change": -2}


async def test_the_same_stock_again_leaves_no_line_in_the_ledger(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, 5)
    answer = await ask(mcp, "update_inventory", product_id=product.id, quantity=5)
    assert answer["inventory"]["change"] == 0
    assert "nothing was changed" in answer["message"]
    assert await movements(database, tenant) == []


async def test_stock_is_never_taken_below_zero_and_the_error_says_what_there_is(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [variant] = await add_product(db, 2, title="Shirt")
    text = await refusal(mcp, "update_inventory", product_id=product.id, adjustment=-3)
    assert text.startswith("Shirt (Size 1) has 2 in stock: -3 would take it below zero.")
    assert (await stored(database, tenant, variant)).inventory_quantity == 2
    assert await movements(database, tenant) == []


async def test_what_is_below_zero_may_go_up_but_not_further_down(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, -5)
    assert (await ask(mcp, "update_inventory", product_id=product.id, adjustment=2))["inventory"]["new"] == -3
    assert "below zero" in await refusal(mcp, "update_inventory", product_id=product.id, adjustment=-1)


async def test_a_stock_beyond_reason_is_refused_and_never_an_error_of_the_database(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, 2_000_000_000)
    assert "above" in await refusal(mcp, "update_inventory", product_id=product.id, adjustment=1_000_000_000)
    assert (await ask(mcp, "update_inventory", product_id=product.id, adjustment=-1))["inventory"]["change"] == -1
    assert "`quantity`" in await refusal(mcp, "update_inventory", product_id=product.id, quantity=2**40)


async def test_several_variants_are_listed_until_one_is_named(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [small, large] = await add_product(db, 1, 2)
        _, [foreign] = await add_product(db, 1)
    text = await refusal(mcp, "update_inventory", product_id=product.id, quantity=3)
    assert f"Allowed: {small.id} (Size 1), {large.id} (Size 2)." in text
    answer = await ask(mcp, "update_inventory", product_id=product.id, variant_id=large.id, quantity=3)
    assert (answer["variant"]["id"], answer["inventory"]["previous"]) == (large.id, 2)
    text = await refusal(mcp, "update_inventory", product_id=product.id, variant_id=foreign.id, quantity=3)
    assert text.startswith(f"Product {product.id} has no variant {foreign.id}.")


@pytest.mark.parametrize("arguments", [{}, {"quantity": 1, "adjustment": 1}])
async def test_either_a_quantity_or_an_adjustment_is_needed(mcp, arguments):
    text = await refusal(mcp, "update_inventory", product_id=1, **arguments)
    assert text == "Give either `quantity` or `adjustment`, and not both."


async def test_of_twenty_withdrawals_at_once_only_as_many_succeed_as_there_are_units(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [variant] = await add_product(db, 5)
    outcomes = []

    async def withdraw() -> None:
        result = await mcp.call_tool("update_inventory", {"product_id": product.id, "adjustment": -1})
        outcomes.append("below zero" in result.content[0].text if result.is_error else "done")

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(withdraw)
    assert outcomes.count("done") == 5
    assert outcomes.count(True) == 15
    assert (await stored(database, tenant, variant)).inventory_quantity == 0
    assert [line.quantity_after for line in await movements(database, tenant)] == [4, 3, 2, 1, 0]


async def test_counts_at_once_leave_a_ledger_that_adds_up(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [variant] = await add_product(db, 100)

    async def count(quantity: int) -> None:
        await ask(mcp, "update_inventory", product_id=product.id, quantity=quantity)

    async with anyio.create_task_group() as tasks:
        for quantity in range(8):
            tasks.start_soon(count, quantity)
    stock = 100
    for line in await movements(database, tenant):
        stock += line.change
        assert line.quantity_after == stock
    assert (await stored(database, tenant, variant)).inventory_quantity == stock


async def test_removing_a_product_removes_its_ledger_too(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, 5)
    await ask(mcp, "update_inventory", product_id=product.id, quantity=1)
    async with database.tenant(tenant.id) as db:
        await db.session.delete(await db.session.get(type(product), product.id))
    assert await movements(database, tenant) == []


async def test_that_a_stock_ran_low_is_told_once_for_each_time_that_it_falls(mcp, database, tenant, run_jobs):
    async with database.tenant(tenant.id) as db:
        product, [variant] = await add_product(db, 30)
    await run_jobs()
    for quantity in (20, 10, 4, 25, 9):
        await ask(mcp, "update_inventory", product_id=product.id, quantity=quantity)
    async with database.tenant(tenant.id) as db:
        connection = await db.session.connection()
        runs = await read_runs(connection, tenant.id, name="commerce.tell_of_low_stock")
    told = [run.payload["event"] for run in reversed(runs)]
    assert [(one["tenant_id"], one["data"]["units"], one["data"]["variant_id"]) for one in told] == [
        (tenant.id, 10, variant.id),
        (tenant.id, 9, variant.id),
    ]
    assert await run_jobs() == 2
    async with database.tenant(tenant.id) as db:
        after = await read_runs(await db.session.connection(), tenant.id, name="commerce.tell_of_low_stock")
    assert {run.state for run in after} == {"done"}
