from __future__ import annotations

import pytest

from mercato.plugins.commerce.category import commerce
from mercato.tenancy.database import TenantDatabase
from tests.plugins.commerce.answers import ask
from tests.plugins.commerce.factory import add_customer, add_order, add_product

READS = [tool.name for tool in commerce.tools if tool.read_only]


@pytest.fixture
def statements(monkeypatch):
    made = []
    rows = TenantDatabase.rows

    async def counted(self, statement):
        made.append(statement)
        return await rows(self, statement)

    monkeypatch.setattr(TenantDatabase, "rows", counted)
    return made


@pytest.mark.parametrize("tool", READS)
async def test_a_read_takes_three_statements_at_most_however_many_rows(tool, mcp, database, tenant, statements):
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(db)
        for _ in range(12):
            product, [variant] = await add_product(db, 5)
            order = await add_order(db, (variant, 1), (variant, 2), customer_id=customer.id)
    arguments = {
        "get_order": {"order_id": order.id},
        "get_product": {"product_id": product.id},
        "get_customer": {"customer_id": customer.id},
        "get_customer_orders": {"customer_id": customer.id},
        "get_inventory": {"variants": True},
        "search_orders": {"query": "ada"},
        "search_customers": {"query": "ada"},
    }
    statements.clear()
    await ask(mcp, tool, **arguments.get(tool, {}))
    assert 1 <= len(statements) <= 3
