from __future__ import annotations

import pytest
import sqlalchemy as sa
from mcp.shared.exceptions import MCPError

from mercato.plugins.commerce import models
from mercato.plugins.commerce.category import commerce
from tests.plugins.commerce.factory import add_customer, add_order, add_product

TABLES = (
    models.Customer,
    models.Product,
    models.Variant,
    models.StockMovement,
    models.Order,
    models.OrderLine,
)
WHO = "Zuleika"


@pytest.fixture
async def theirs(database, tenant):
    """Rows of `tenant`, which `other_tenant` must neither see nor change; arguments that name them, by tool."""
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(db, first_name=WHO, orders_count=1, total_spent_minor=2500)
        product, [variant] = await add_product(db, 5, title=WHO)
        order = await add_order(db, (variant, 1), number=WHO, customer_id=customer.id)
    by_id = {"order": {"order_id": order.id}, "product": {"product_id": product.id}}
    customer_id = {"customer_id": customer.id}
    return {
        "list_orders": {},
        "get_order": {**by_id["order"], "detail": "full"},
        "search_orders": {"query": WHO},
        "update_order_status": {**by_id["order"], "status": "confirmed"},
        "cancel_order": {**by_id["order"], "reason": "mine now", "confirm": True},
        "list_customers": {},
        "get_customer": customer_id,
        "search_customers": {"query": WHO},
        "get_customer_orders": customer_id,
        "list_products": {},
        "get_product": by_id["product"],
        "update_product": {**by_id["product"], "title": "mine now"},
        "get_inventory": {"variants": True},
        "update_inventory": {**by_id["product"], "variant_id": variant.id, "adjustment": 1},
    }


async def _everything(database, tenant):
    async with database.tenant(tenant.id, read_only=True) as db:
        return [await db.rows(sa.select(table).order_by(table.id)) for table in TABLES]


async def test_no_tool_shows_or_changes_a_row_of_another_tenant(theirs, other_mcp, database, tenant, other_tenant):
    assert set(theirs) == {tool.name for tool in commerce.tools}
    before = await _everything(database, tenant)
    for name, arguments in theirs.items():
        result = await other_mcp.call_tool(name, arguments)
        text = result.content[0].text
        if result.is_error:
            assert text.startswith("There is no "), (name, text)
        else:
            assert result.structured_content["total_count"] == 0, name
        assert WHO not in text
    assert await _everything(database, tenant) == before
    assert not any(await _everything(database, other_tenant))


async def test_the_owner_of_the_rows_reaches_them_by_the_same_calls(theirs, mcp):
    for name, arguments in theirs.items():
        result = await mcp.call_tool(name, arguments)
        assert not result.is_error, (name, result.content[0].text)
        assert result.structured_content.get("total_count", 1) == 1, name


@pytest.mark.parametrize(("kind", "tool"), [("orders", "get_order"), ("products", "get_product")])
async def test_no_resource_or_completion_shows_a_row_of_another_tenant(theirs, mcp, other_mcp, kind, tool):
    [number] = [value for key, value in theirs[tool].items() if key.endswith("_id")]
    assert WHO in (await mcp.read_resource(f"mercato://{kind}/{number}")).contents[0].text
    with pytest.raises(MCPError, match="There is no resource"):
        await other_mcp.read_resource(f"mercato://{kind}/{number}")
