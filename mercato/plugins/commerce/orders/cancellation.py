"""The tool that cancels an order, and what follows from it: stock, payment, the customer's counters."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col, select

from mercato import Reply, ToolContext, ToolError, utc_now
from mercato.plugins.commerce.absent import no_such
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.models import Customer, Order, OrderLine
from mercato.plugins.commerce.orders.notes import note_step
from mercato.plugins.commerce.orders.status import lock_order
from mercato.plugins.commerce.orders.transitions import NEXT
from mercato.plugins.commerce.params import OrderId, OrderStatus
from mercato.plugins.commerce.stock import restock
from mercato.plugins.commerce.untrusted import clean, clean_line

_UNPAID = ("pending", "authorized")
_OWED = ("paid", "partially_paid", "partially_refunded")


class CancelledOrder(BaseModel):
    """The order after it was cancelled."""

    id: int
    order_number: str
    status: OrderStatus
    financial_status: str
    cancelled_at: datetime
    reason: str


class Restocked(BaseModel):
    """A variant that got units back."""

    variant_id: int
    product_id: int
    units: int
    inventory_quantity: int


class Cancellation(BaseModel):
    """What was done, and what is left to do."""

    success: bool = True
    message: str
    order: CancelledOrder
    restocked: list[Restocked]
    refund_due: bool
    refund_due_minor: int | None = Field(description="None where no refund is due, or only a part was paid.")
    currency: str


async def _question(ctx: ToolContext, order_id: int, reason: str) -> str:
    """Return what would be cancelled, for the person who decides. Raises `ToolError` as the tool does."""
    rows = await ctx.db.rows(select(Order).where(col(Order.id) == order_id))
    if not rows:
        raise no_such("order", order_id)
    order = rows[0]
    _check_cancellable(order)
    whose = f" of {clean_line(order.email)}" if order.email else ""
    worth = f"{order.total_minor} {order.currency} minor units, {order.financial_status}"
    return f"Cancel order {order.number}{whose} ({worth})? The reason given: {clean_line(reason)}."


@commerce.tool(read_only=False, destructive=True, question=_question)
async def cancel_order(
    ctx: ToolContext,
    order_id: OrderId,
    reason: Annotated[str, Field(min_length=1, max_length=500, description="Why; kept with the order.")],
) -> Reply[Cancellation]:
    """Cancel an order that was not shipped yet: unsent tracked items go back to stock, an open payment is voided.

    Money is not paid back: the answer says what is due. For other steps use `update_order_status`.
    """
    order = await lock_order(ctx, order_id)
    _check_cancellable(order)
    await _cancel(ctx, order, reason)
    restocked = await _restock(ctx, order)
    await _count_out(ctx, order)
    products = {f"mercato://products/{item.product_id}" for item in restocked}
    return Reply(_answer(order, restocked), changed=[f"mercato://orders/{order_id}", *sorted(products)])


def _check_cancellable(order: Any) -> None:
    if order.status == "cancelled":
        since = f" on {order.cancelled_at:%Y-%m-%d %H:%M} UTC" if order.cancelled_at else ""
        why = f": {clean_line(order.cancel_reason)}" if order.cancel_reason else ""
        raise ToolError(f"Order {order.number} was already cancelled{since}{why}.", field="order_id")
    if "cancelled" not in NEXT[order.status]:
        raise ToolError(
            f"Order {order.number} is {order.status}: it can be cancelled only before it is shipped.",
            field="order_id",
            next_step="What was sent is refunded where the payment was taken; no tool does that yet.",
        )


async def _cancel(ctx: ToolContext, order: Order, reason: str) -> None:
    now = utc_now()
    note_step(order, "cancelled", reason, now)
    order.status = "cancelled"
    order.cancel_reason = clean(reason)
    order.cancelled_at = order.updated_at = now
    if order.financial_status in _UNPAID:
        order.financial_status = "voided"
    await ctx.db.session.flush()


async def _restock(ctx: ToolContext, order: Order) -> list[Restocked]:
    unsent = select(OrderLine.variant_id, OrderLine.quantity).where(
        col(OrderLine.order_id) == order.id,
        col(OrderLine.fulfillment_status) == "unfulfilled",
        col(OrderLine.variant_id).is_not(None),
    )
    units: Counter[int] = Counter()
    for variant_id, quantity in (await ctx.db.session.exec(unsent)).all():
        units[variant_id or 0] += quantity
    variants = await restock(ctx, units, f"order {order.number} cancelled") if units else {}
    return [
        Restocked(
            variant_id=variant.id,
            product_id=variant.product_id,
            units=units[variant.id],
            inventory_quantity=variant.inventory_quantity,
        )
        for variant in variants.values()
    ]


async def _count_out(ctx: ToolContext, order: Order) -> None:
    """Take the order out of its customer's counters; see `Customer` for what they count."""
    if order.customer_id is None:
        return
    spent = col(Customer.total_spent_minor)
    worth = order.total_minor - order.refunded_minor
    left = sa.case((col(Customer.currency) == order.currency, spent - worth), else_=spent)
    statement = sa.update(Customer).where(col(Customer.id) == order.customer_id)
    await ctx.db.session.exec(
        statement.values(
            orders_count=sa.func.greatest(col(Customer.orders_count) - 1, 0),
            total_spent_minor=sa.func.greatest(left, 0),
            updated_at=utc_now(),
        ),
        execution_options={"synchronize_session": False},
    )


def _answer(order: Order, restocked: list[Restocked]) -> Cancellation:
    partly = order.financial_status == "partially_paid"
    owed = order.total_minor - order.refunded_minor if order.financial_status in _OWED else 0
    due = f" A refund of {owed} {order.currency} minor units is due." if owed else " No refund is due."
    if partly and owed:
        due = " A part was paid and is due back: see where the payment was taken how much."
    units = sum(item.units for item in restocked)
    cancelled = CancelledOrder.model_validate(
        {
            **order.model_dump(include={"id", "status", "financial_status", "cancelled_at"}),
            "order_number": order.number,
            "reason": order.cancel_reason,
        }
    )
    return Cancellation(
        message=f"Order {order.number} is cancelled; {units} units went back to stock.{due}",
        order=cancelled,
        restocked=restocked,
        refund_due=owed > 0,
        refund_due_minor=owed if owed > 0 and not partly else None,
        currency=order.currency,
    )
