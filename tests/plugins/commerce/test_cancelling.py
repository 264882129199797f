from __future__ import annotations

import anyio
import pytest

from tests.plugins.commerce.answers import ask, refusal
from tests.plugins.commerce.factory import add_customer, add_line, add_order, add_product, movements, stored


async def cancel(mcp, order, reason="customer changed their mind"):
    return await ask(mcp, "cancel_order", order_id=order.id, reason=reason, confirm=True)


async def test_a_cancelled_order_says_when_and_why(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, number="#7", status="processing")
    answer = await cancel(mcp, order)
    assert answer["order"]["status"] == "cancelled"
    assert answer["order"]["reason"] == "customer changed their mind"
    row = await stored(database, tenant, order)
    assert (row.status, row.cancel_reason) == ("cancelled", "customer changed their mind")
    assert row.cancelled_at is not None
    assert row.staff_notes.endswith("processing -> cancelled: customer changed their mind")


async def test_unsent_tracked_items_go_back_to_stock_with_a_line_in_the_ledger(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [shirt, cap, service] = await add_product(db, 5, 0, None)
        order = await add_order(db, (shirt, 2), (cap, 1), (service, 3), (shirt, 1), number="#8", status="processing")
        await add_line(db, order, 9, cap, 4, fulfillment_status="fulfilled")
    answer = await cancel(mcp, order)
    assert answer["restocked"] == [
        {"variant_id": shirt.id, "product_id": product.id, "units": 3, "inventory_quantity": 8},
        {"variant_id": cap.id, "product_id": product.id, "units": 1, "inventory_quantity": 1},
    ]
    assert "4 units went back to stock" in answer["message"]
    assert (await stored(database, tenant, service)).inventory_quantity == 0
    ledger = await movements(database, tenant)
    assert [(row.variant_id, row.change, row.quantity_after) for row in ledger] == [(shirt.id, 3, 8), (cap.id, 1, 1)]
    assert {row.reason for row in ledger} == {"order #8 cancelled"}
    assert all(row.user_id for row in ledger)


@pytest.mark.parametrize("financial_status", ["pending", "authorized"])
async def test_an_open_payment_is_voided_and_no_refund_is_due(mcp, database, tenant, financial_status):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, financial_status=financial_status)
    answer = await cancel(mcp, order)
    assert answer["order"]["financial_status"] == "voided"
    assert (answer["refund_due"], answer["refund_due_minor"]) == (False, None)


@pytest.mark.parametrize(
    ("financial_status", "refunded", "due"),
    [("paid", 0, 2500), ("partially_refunded", 1000, 1500), ("partially_paid", 0, None)],
)
async def test_a_payment_stays_and_the_refund_due_is_said(mcp, database, tenant, financial_status, refunded, due):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, financial_status=financial_status, total_minor=2500, refunded_minor=refunded)
    answer = await cancel(mcp, order)
    assert answer["order"]["financial_status"] == financial_status
    assert (answer["refund_due"], answer["refund_due_minor"], answer["currency"]) == (True, due, "USD")


async def test_the_customers_counters_lose_the_order(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(db, orders_count=3, total_spent_minor=9000)
        order = await add_order(db, customer_id=customer.id, total_minor=2500, refunded_minor=500)
        foreign = await add_order(db, customer_id=customer.id, total_minor=2500, currency="EUR")
        worth_more = await add_order(db, customer_id=customer.id, total_minor=99_999)
    for one, count, spent in ((order, 2, 7000), (foreign, 1, 7000), (worth_more, 0, 0)):
        await cancel(mcp, one)
        row = await stored(database, tenant, customer)
        assert (row.orders_count, row.total_spent_minor) == (count, spent)


@pytest.mark.parametrize("status", ["shipped", "delivered", "refunded"])
async def test_what_was_sent_cannot_be_cancelled(mcp, database, tenant, status):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, number="#3", status=status)
    text = await refusal(mcp, "cancel_order", order_id=order.id, reason="late", confirm=True)
    assert text.startswith(f"Order #3 is {status}: it can be cancelled only before it is shipped.")
    assert (await stored(database, tenant, order)).status == status


async def test_a_second_cancellation_is_refused_with_the_first_ones_date_and_reason(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, number="#4")
    await cancel(mcp, order, "fraud")
    text = await refusal(mcp, "cancel_order", order_id=order.id, reason="again", confirm=True)
    assert text.startswith("Order #4 was already cancelled on 20")
    assert text.endswith("UTC: fraud.")


async def test_nothing_is_cancelled_without_a_reason_or_a_confirmation(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db)
    assert "`reason`" in await refusal(mcp, "cancel_order", order_id=order.id, reason="  ", confirm=True)
    assert "`confirm: true`" in await refusal(mcp, "cancel_order", order_id=order.id, reason="late")
    assert (await stored(database, tenant, order)).status == "pending"


async def test_of_cancellations_at_once_one_restocks(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        customer = await add_customer(db, orders_count=1, total_spent_minor=2500)
        _, [variant] = await add_product(db, 0)
        order = await add_order(db, (variant, 2), customer_id=customer.id)
    outcomes = []

    async def attempt() -> None:
        arguments = {"order_id": order.id, "reason": "twice", "confirm": True}
        outcomes.append((await mcp.call_tool("cancel_order", arguments)).is_error)

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(attempt)
    assert sorted(map(bool, outcomes)) == [False] + [True] * 5
    assert (await stored(database, tenant, variant)).inventory_quantity == 2
    assert len(await movements(database, tenant)) == 1


async def test_orders_of_the_same_items_are_cancelled_at_once_without_waiting_for_each_other(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        _, variants = await add_product(db, 0, 0, 0)
        orders = [
            await add_order(db, *((variant, 1) for variant in (variants if n % 2 else variants[::-1])))
            for n in range(8)
        ]
    async with anyio.create_task_group() as tasks:
        for order in orders:
            tasks.start_soon(cancel, mcp, order)
    for variant in variants:
        assert (await stored(database, tenant, variant)).inventory_quantity == 8
