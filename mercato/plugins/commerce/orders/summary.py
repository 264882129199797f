"""An order in one row, as every list of orders shows it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col

from mercato import Tenant
from mercato.plugins.commerce.days import local_time
from mercato.plugins.commerce.models import Order, OrderLine
from mercato.plugins.commerce.params import FinancialStatus, FulfillmentStatus, OrderStatus
from mercato.plugins.commerce.untrusted import UntrustedLine


class OrderSummary(BaseModel):
    """An order in short."""

    id: int
    order_number: str
    customer_id: int | None
    customer_email: UntrustedLine | None
    status: OrderStatus
    fulfillment_status: FulfillmentStatus
    financial_status: FinancialStatus
    total_minor: int
    currency: str
    items_count: int
    placed_at: datetime
    placed_at_local: datetime
    created_at: datetime


class OrderPage(BaseModel):
    """A page of orders, newest first."""

    orders: list[OrderSummary]
    total_count: int
    next_cursor: str | None
    timezone: str = Field(description="The zone of `placed_at_local` and of the days asked for.")


def select_summaries() -> sa.Select[Any]:
    """Return the statement whose rows `summaries` reads."""
    items = (
        sa.select(sa.func.coalesce(sa.func.sum(col(OrderLine.quantity)), 0))
        .where(col(OrderLine.order_id) == col(Order.id))
        .scalar_subquery()
    )
    return sa.select(
        col(Order.id),
        col(Order.number).label("order_number"),
        col(Order.customer_id),
        col(Order.email).label("customer_email"),
        col(Order.status),
        col(Order.fulfillment_status),
        col(Order.financial_status),
        col(Order.total_minor),
        col(Order.currency),
        items.label("items_count"),
        col(Order.placed_at),
        col(Order.created_at),
    ).select_from(Order)


def summaries(tenant: Tenant, rows: Iterable[sa.Row[Any]]) -> list[OrderSummary]:
    """Return the orders of these rows."""
    return [
        OrderSummary.model_validate({**row._mapping, "placed_at_local": local_time(tenant, row.placed_at)})
        for row in rows
    ]
