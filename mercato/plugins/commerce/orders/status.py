"""The tool that moves an order on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col, select

from mercato import Reply, ToolContext, ToolError, utc_now
from mercato.plugins.commerce.absent import no_such
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.models import Order, OrderLine
from mercato.plugins.commerce.orders.notes import note_step
from mercato.plugins.commerce.orders.transitions import check_step
from mercato.plugins.commerce.params import OrderId, OrderStatus

_ELSEWHERE = {
    "cancelled": "Use `cancel_order`, which also restocks.",
    "refunded": "No tool refunds an order yet: that is done where the payment was taken.",
}


class MovedOrder(BaseModel):
    """Where the order was and is."""

    id: int
    order_number: str
    old_status: OrderStatus
    new_status: OrderStatus
    fulfillment_status: str
    updated_at: datetime


class StatusUpdate(BaseModel):
    """What became of the step."""

    success: bool = True
    changed: bool = Field(description="False where it had that status already.")
    message: str
    order: MovedOrder


@commerce.tool(read_only=False, idempotent=True)
async def update_order_status(
    ctx: ToolContext,
    order_id: OrderId,
    status: Annotated[OrderStatus, Field(description="The next step: confirmed, processing, shipped or delivered.")],
    notes: Annotated[
        str | None, Field(min_length=1, max_length=500, description="Appended to the staff notes.")
    ] = None,
) -> Reply[StatusUpdate]:
    """Move an order to its next step, when it was confirmed, prepared, shipped or delivered.

    Cancelling is `cancel_order`; refunding has no tool yet.
    """
    order = await lock_order(ctx, order_id)
    before = order.status
    if before == status:
        return Reply(_answer(order, before))
    if status in _ELSEWHERE:
        raise ToolError(f"This tool does not set `{status}`.", field="status", next_step=_ELSEWHERE[status])
    check_step(order.number, before, status, besides=_ELSEWHERE)
    await _move(ctx, order, status, notes)
    return Reply(_answer(order, before), changed=[f"mercato://orders/{order_id}"])


async def lock_order(ctx: ToolContext, order_id: int) -> Order:
    """Return the order, held until the transaction ends, so that two calls take turns. Raises `ToolError`."""
    statement = select(Order).where(col(Order.id) == order_id).with_for_update()
    order = (await ctx.db.session.exec(statement)).first()
    if order is None:
        raise no_such("order", order_id)
    return order


async def _move(ctx: ToolContext, order: Order, status: OrderStatus, notes: str | None) -> None:
    now = utc_now()
    if notes is not None:
        note_step(order, status, notes, now)
    order.status = status
    order.updated_at = now
    if status == "shipped":
        order.fulfillment_status = "fulfilled"
        order.fulfilled_at = order.fulfilled_at or now
        lines = sa.update(OrderLine).where(col(OrderLine.order_id) == order.id).values(fulfillment_status="fulfilled")
        await ctx.db.session.exec(lines, execution_options={"synchronize_session": False})
    await ctx.db.session.flush()


def _answer(order: Order, before: str) -> StatusUpdate:
    changed = order.status != before
    said = f"is now {order.status}, before it was {before}" if changed else f"is {before} already; nothing was changed"
    moved = MovedOrder.model_validate(
        {
            **order.model_dump(include={"id", "fulfillment_status", "updated_at"}),
            "order_number": order.number,
            "old_status": before,
            "new_status": order.status,
        }
    )
    return StatusUpdate(changed=changed, message=f"Order {order.number} {said}.", order=moved)
