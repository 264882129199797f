from __future__ import annotations

from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato import ToolError
from mercato.plugins.commerce.models import ORDER_STATUSES
from mercato.plugins.commerce.orders.transitions import NEXT, check_step
from tests.plugins.commerce.answers import ask, refusal
from tests.plugins.commerce.factory import add_customer, add_line, add_order, add_product, stored

STEPS = {
    ("pending", "confirmed"),
    ("pending", "processing"),
    ("pending", "cancelled"),
    ("confirmed", "processing"),
    ("confirmed", "cancelled"),
    ("processing", "shipped"),
    ("processing", "cancelled"),
    ("shipped", "delivered"),
    ("shipped", "refunded"),
    ("delivered", "refunded"),
}


async def test_an_order_is_read_with_its_lines_totals_customer_and_notes(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        product, [variant] = await add_product(db, 5)
        customer = await add_customer(db, email="grace@example.com", first_name="Grace", last_name="Hopper")
        order = await add_order(
            db,
            (variant, 2),
            number="#9",
            customer_id=customer.id,
            email=None,
            subtotal_minor=2000,
            shipping_minor=499,
            total_minor=2499,
            staff_notes="call first",
            tags=["vip"],
            placed_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        )
    answer = await ask(mcp, "get_order", order_id=order.id)
    assert answer["order_number"] == "#9"
    assert answer["customer"] == {"id": customer.id, "email": "grace@example.com", "name": "Grace Hopper"}
    assert answer["totals"] == {
        "subtotal_minor": 2000,
        "discount_minor": 0,
        "shipping_minor": 499,
        "tax_minor": 0,
        "total_minor": 2499,
        "refunded_minor": 0,
        "currency": "USD",
    }
    [line] = answer["line_items"]
    assert (line["product_id"], line["variant_id"], line["quantity"]) == (product.id, variant.id, 2)
    assert (answer["staff_notes"], answer["tags"], answer["timezone"]) == ("call first", ["vip"], "UTC")
    assert answer["placed_at"] == "2026-01-02T03:04:05Z"


async def test_an_address_is_given_only_in_full_and_cleaned(mcp, database, tenant):
    address = {"first_name": "Ada", "last_name": "Lovelace", "address1": "Main St\u202e 1\n\nIgnore this", "zip": 123}
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, shipping_address=address)
    assert (await ask(mcp, "get_order", order_id=order.id))["shipping_address_untrusted"] is None
    full = (await ask(mcp, "get_order", order_id=order.id, detail="full"))["shipping_address_untrusted"]
    assert (full["name"], full["address1"], full["zip"]) == ("Ada Lovelace", "Main St 1 Ignore this", "123")
    assert full["city"] is None


async def test_a_note_by_the_customer_is_cleaned_and_its_field_says_so(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        note = "Hi\u200b\u202e\x1b[2J there\U000e0041" + "x" * 5000
        order = await add_order(db, customer_note=note)
    answer = await ask(mcp, "get_order", order_id=order.id)
    assert answer["customer_note_untrusted"].startswith("Hi[2J therexxx")
    assert len(answer["customer_note_untrusted"]) == 1000
    assert "customer_note" not in answer


async def test_many_lines_come_in_pages(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        _, [variant] = await add_product(db, 5)
        order = await add_order(db)
        for position in range(1, 61):
            await add_line(db, order, position, variant, position)
    pages = [await ask(mcp, "get_order", order_id=order.id)]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(await ask(mcp, "get_order", order_id=order.id, cursor=cursor))
    quantities = [line["quantity"] for page in pages for line in page["line_items"]]
    assert quantities == list(range(1, 61))
    assert {page["line_items_count"] for page in pages} == {60}


@pytest.mark.parametrize("tool", ["get_order", "update_order_status", "cancel_order"])
async def test_an_order_that_is_not_there_is_said_so_with_the_way_to_find_it(mcp, tool):
    arguments = {
        "get_order": {},
        "update_order_status": {"status": "shipped"},
        "cancel_order": {"reason": "x", "confirm": True},
    }
    text = await refusal(mcp, tool, order_id=12345678, **arguments[tool])
    assert text == "There is no order 12345678. Find its id with `search_orders`."


@pytest.mark.parametrize("order_id", [0, -1, 2**53, 2**70, "first", 1.5])
async def test_an_id_that_can_be_none_is_refused_before_the_database_sees_it(mcp, order_id):
    assert "`order_id`" in await refusal(mcp, "get_order", order_id=order_id)


async def test_an_order_goes_from_step_to_step(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db)
    for before, after in (("pending", "confirmed"), ("confirmed", "processing")):
        answer = await ask(mcp, "update_order_status", order_id=order.id, status=after, notes="on it")
        assert answer["changed"] is True
        assert (answer["order"]["old_status"], answer["order"]["new_status"]) == (before, after)
    notes = (await stored(database, tenant, order)).staff_notes.splitlines()
    assert [note.partition("] ")[2] for note in notes] == [
        "pending -> confirmed: on it",
        "confirmed -> processing: on it",
    ]
    assert notes[0].startswith("[20")
    assert notes[0].partition("]")[0].endswith("Z")


async def test_a_shipped_order_is_fulfilled_with_its_lines(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        _, [variant] = await add_product(db, 5)
        order = await add_order(db, (variant, 1), status="processing")
    answer = await ask(mcp, "update_order_status", order_id=order.id, status="shipped")
    assert answer["order"]["fulfillment_status"] == "fulfilled"
    row = await stored(database, tenant, order)
    assert row.fulfilled_at is not None
    assert row.updated_at > order.updated_at
    [line] = (await ask(mcp, "get_order", order_id=order.id))["line_items"]
    assert line["fulfillment_status"] == "fulfilled"


async def test_the_present_status_again_changes_nothing(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, status="shipped")
    answer = await ask(mcp, "update_order_status", order_id=order.id, status="shipped", notes="again")
    assert (answer["success"], answer["changed"]) == (True, False)
    assert (await stored(database, tenant, order)).staff_notes is None


async def test_a_refused_step_names_the_present_status_and_the_next_ones(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db, number="#5", status="confirmed")
        final = await add_order(db, number="#6", status="refunded")
    text = await refusal(mcp, "update_order_status", order_id=order.id, status="delivered")
    assert text == "Order #5 is confirmed; it cannot become delivered. Allowed: processing."
    text = await refusal(mcp, "update_order_status", order_id=final.id, status="shipped")
    assert text == "Order #6 is refunded, which is final: it cannot become shipped."
    assert (await stored(database, tenant, order)).status == "confirmed"


async def test_cancelling_and_refunding_are_pointed_elsewhere(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db)
        shipped = await add_order(db, status="shipped")
    assert "`cancel_order`" in await refusal(mcp, "update_order_status", order_id=order.id, status="cancelled")
    assert "No tool refunds" in await refusal(mcp, "update_order_status", order_id=shipped.id, status="refunded")
    assert (await stored(database, tenant, shipped)).status == "shipped"


async def test_of_equal_steps_at_once_one_does_it_and_the_others_report_no_change(mcp, database, tenant):
    async with database.tenant(tenant.id) as db:
        order = await add_order(db)
    changed = []

    async def confirm() -> None:
        answer = await ask(mcp, "update_order_status", order_id=order.id, status="confirmed", notes="once")
        changed.append(answer["changed"])

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(confirm)
    assert sorted(changed) == [False] * 7 + [True]
    assert (await stored(database, tenant, order)).staff_notes.count("once") == 1


@given(st.sampled_from(ORDER_STATUSES), st.sampled_from(ORDER_STATUSES))
def test_only_the_drawn_steps_are_allowed(present, wanted):
    if (present, wanted) in STEPS:
        check_step("#1", present, wanted)
        return
    with pytest.raises(ToolError) as refused:
        check_step("#1", present, wanted)
    assert present in refused.value.text()
    assert all(step in refused.value.text() for step in NEXT[present])


@given(st.lists(st.sampled_from(ORDER_STATUSES), max_size=8))
def test_no_walk_leaves_a_final_status_or_cancels_what_was_sent(walk):
    present, been = "pending", ["pending"]
    for wanted in walk:
        try:
            check_step("#1", present, wanted)
        except ToolError:
            continue
        present = wanted
        been.append(present)
    assert not {"cancelled", "refunded"} & set(been[:-1])
    assert not {"shipped", "cancelled"} <= set(been)
    assert set(NEXT) == set(ORDER_STATUSES)
