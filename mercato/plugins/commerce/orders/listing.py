"""Tools that find orders."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field
from sqlmodel import col

from mercato import Cursor, Limit, Query, ToolContext
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.days import within_days
from mercato.plugins.commerce.listing import Listing, contains
from mercato.plugins.commerce.models import Customer, Order
from mercato.plugins.commerce.orders.summary import OrderPage, select_summaries, summaries
from mercato.plugins.commerce.params import Day, FinancialStatus, FulfillmentStatus, OrderStatus


@commerce.tool(read_only=True)
async def list_orders(
    ctx: ToolContext,
    status: Annotated[OrderStatus | None, Field(description="Only this step.")] = None,
    fulfillment_status: Annotated[FulfillmentStatus | None, Field(description="Only sent this far.")] = None,
    financial_status: Annotated[FinancialStatus | None, Field(description="Only paid this far.")] = None,
    customer_email: Annotated[
        str | None, Field(min_length=1, max_length=200, description="Whole, in any case.")
    ] = None,
    date_from: Annotated[Day, Field(description="First day, in the tenant's zone.")] = None,
    date_to: Annotated[Day, Field(description="Last day, included.")] = None,
    limit: Limit = 10,
    cursor: Cursor = None,
) -> OrderPage:
    """List orders, newest first, by any mix of filters.

    For a text or a number use `search_orders`, for one customer `get_customer_orders`.
    """
    equal = {"status": status, "fulfillment_status": fulfillment_status, "financial_status": financial_status}
    where = [getattr(Order, name) == value for name, value in equal.items() if value is not None]
    where += within_days(ctx.tenant, col(Order.placed_at), date_from, date_to)
    if customer_email is not None:
        where.append(col(Order.email_key) == sa.func.lower(customer_email))
    filters = (*equal.values(), customer_email, date_from, date_to)
    return await order_page(ctx, "list_orders", filters, where, cursor, limit)


@commerce.tool(read_only=True)
async def search_orders(ctx: ToolContext, query: Query, limit: Limit = 10, cursor: Cursor = None) -> OrderPage:
    """Find orders whose number, email, customer's name, customer's note or staff notes contain a text, newest first.

    To filter by status or day use `list_orders`.
    """
    where = [sa.or_(contains(query, Order.number, Order.email, Order.customer_note, Order.staff_notes), _named(query))]
    return await order_page(ctx, "search_orders", (query,), where, cursor, limit)


async def order_page(
    ctx: ToolContext,
    name: str,
    filters: tuple[Any, ...],
    where: list[sa.ColumnElement[bool]],
    cursor: str | None,
    limit: int,
) -> OrderPage:
    """Return a page of the orders that meet the conditions, newest first."""
    listing = Listing(
        name=name,
        filters=filters,
        show=select_summaries(),
        counted=Order,
        where=where,
        key=col(Order.placed_at),
        id=col(Order.id),
    )
    page = await listing.page(ctx, cursor, limit)
    return OrderPage(
        orders=summaries(ctx.tenant, page.rows),
        total_count=page.total_count,
        next_cursor=page.next_cursor,
        timezone=ctx.tenant.timezone,
    )


def _named(query: str) -> sa.ColumnElement[bool]:
    full_name = sa.func.concat_ws(" ", Customer.first_name, Customer.last_name)
    customers = sa.select(col(Customer.id)).where(contains(query, full_name))
    return col(Order.customer_id).in_(customers)
