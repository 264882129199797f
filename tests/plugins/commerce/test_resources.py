from __future__ import annotations

import json

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from mercato.plugins.commerce.category import commerce
from tests.plugins.commerce.answers import ask
from tests.plugins.commerce.factory import add_order, add_product


async def test_an_order_as_a_resource_is_what_get_order_gives_in_full(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, shipping_address={"city": "Bonn"})
    read = await mcp.read_resource(f"mercato://orders/{order.id}")
    assert json.loads(read.contents[0].text) == await ask(mcp, "get_order", order_id=order.id, detail="full")


async def test_a_product_as_a_resource_is_what_get_product_gives_in_full(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, _ = await add_product(db, 1, description="d" * 600)
    read = await mcp.read_resource(f"mercato://products/{product.id}")
    assert json.loads(read.contents[0].text) == await ask(mcp, "get_product", product_id=product.id, detail="full")


@pytest.mark.parametrize("tail", ["999999", "0", "-1", "first", "99999999999999999999", "1.5", "%31x", "\u0661"])
@pytest.mark.parametrize("kind", ["orders", "products"])
async def test_there_is_no_resource_by_an_id_that_is_none(mcp, kind, tail):
    with pytest.raises(MCPError, match="There is no resource"):
        await mcp.read_resource(f"mercato://{kind}/{tail}")


async def test_ids_are_completed_from_the_newest_rows(mcp, other_mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        orders = [await add_order(db) for _ in range(3)]
        products = [(await add_product(db))[0] for _ in range(3)]
    for kind, rows in (("order", orders), ("product", products)):
        template = ResourceTemplateReference(uri=f"mercato://{kind}s/{{{kind}_id}}")
        newest = [str(row.id) for row in reversed(rows)]
        for prefix, expected in (("", newest), (newest[0], newest[:1]), ("x", []), ("%", [])):
            argument = {"name": f"{kind}_id", "value": prefix}
            assert (await mcp.complete(template, argument)).completion.values == expected
            assert (await other_mcp.complete(template, argument)).completion.values == []


async def test_a_write_names_the_resources_that_it_changed(ctx):
    product, [variant] = await add_product(ctx.db, 5)
    order = await add_order(ctx.db, (variant, 1))
    tools = {tool.name: tool for tool in commerce.tools}
    calls = [
        ("update_order_status", {"order_id": order.id, "status": "confirmed", "notes": None}, "order"),
        ("update_order_status", {"order_id": order.id, "status": "confirmed", "notes": None}, ""),
        ("update_inventory", {"product_id": product.id, "adjustment": 1}, "product"),
        ("update_inventory", {"product_id": product.id, "quantity": 6}, ""),
        ("update_product", {"product_id": product.id, "title": "New"}, "product"),
        ("update_product", {"product_id": product.id, "title": "New"}, ""),
        ("cancel_order", {"order_id": order.id, "reason": "x"}, "order product"),
    ]
    uris = {"order": f"mercato://orders/{order.id}", "product": f"mercato://products/{product.id}"}
    for name, arguments, changed in calls:
        reply = await tools[name](ctx, **arguments)
        assert list(reply.changed) == [uris[noun] for noun in changed.split()], name


async def test_an_investigation_names_the_order_and_the_tools_in_order(mcp):
    got = await mcp.get_prompt("investigate_order", {"order_id": "12", "issue": "refund"})
    text = got.messages[0].content.text
    assert "order 12" in text
    assert text.index("`get_order`") < text.index("`get_customer_orders`")
    assert "refund issue" in text


@pytest.mark.parametrize("arguments", [{}, {"order_id": "first"}, {"order_id": "1", "issue": "taste"}])
async def test_an_investigation_refuses_arguments_that_do_not_fit(mcp, arguments):
    with pytest.raises(MCPError, match=r"order_id|issue"):
        await mcp.get_prompt("investigate_order", arguments)


async def test_a_prompts_arguments_are_completed(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db)
    prompt = PromptReference(name="investigate_order")
    completed = await mcp.complete(prompt, {"name": "issue", "value": "p"})
    assert completed.completion.values == ["payment"]
    completed = await mcp.complete(prompt, {"name": "order_id", "value": str(order.id)})
    assert completed.completion.values == [str(order.id)]


async def test_an_inventory_report_takes_the_tenants_threshold_unless_told(mcp):
    for arguments, threshold in (({}, 10), ({"low_stock_threshold": "3"}, 3)):
        text = (await mcp.get_prompt("inventory_report", arguments)).messages[0].content.text
        assert f"low_stock_threshold {threshold}," in text


async def test_every_tool_that_a_prompt_or_a_description_names_is_there():
    import re

    names = {tool.name for tool in commerce.tools}
    verbs = "|".join({name.partition("_")[0] for name in names})
    texts = [tool.description for tool in commerce.tools]
    assert {found for text in texts for found in re.findall(rf"`((?:{verbs})_\w+)`", text)} <= names
