"""Tools that find and read customers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col

from mercato import Cursor, Limit, Query, ToolContext
from mercato.plugins.commerce.absent import no_such
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.listing import Listing, Page, contains
from mercato.plugins.commerce.models import Customer, Order
from mercato.plugins.commerce.orders.listing import order_page
from mercato.plugins.commerce.orders.summary import OrderPage
from mercato.plugins.commerce.params import MOST_ID, CustomerId
from mercato.plugins.commerce.untrusted import UntrustedAddress, UntrustedLine, UntrustedText

_SHOWN = (
    "id",
    "email",
    "first_name",
    "last_name",
    "phone",
    "orders_count",
    "total_spent_minor",
    "currency",
    "accepts_marketing",
    "created_at",
)


class CustomerSummary(BaseModel):
    """A customer in short."""

    id: int
    email: UntrustedLine | None
    name: UntrustedLine | None
    phone: UntrustedLine | None
    orders_count: int
    total_spent_minor: int
    currency: str
    accepts_marketing: bool
    created_at: datetime


class CustomerPage(BaseModel):
    """A page of customers."""

    customers: list[CustomerSummary]
    total_count: int
    next_cursor: str | None


class CustomerName(BaseModel):
    """A customer's name, whole and in parts."""

    first: UntrustedLine | None
    last: UntrustedLine | None
    full: UntrustedLine | None


class CustomerMarketing(BaseModel):
    """What the customer agreed to."""

    accepts_marketing: bool


class CustomerStats(BaseModel):
    """Orders that are not cancelled, and what those in this currency came to, less refunds."""

    orders_count: int
    total_spent_minor: int
    currency: str


class CustomerDetail(BaseModel):
    """A customer in full."""

    id: int
    external_id: str | None = Field(description="The id in the shop that the customer came from.")
    email: UntrustedLine | None
    phone: UntrustedLine | None
    name: CustomerName
    default_address_untrusted: UntrustedAddress | None
    marketing: CustomerMarketing
    stats: CustomerStats
    tags: list[str]
    notes_untrusted: UntrustedText | None
    created_at: datetime
    updated_at: datetime


class OrderingCustomer(BaseModel):
    """Whose orders they are."""

    id: int
    email: UntrustedLine | None
    name: UntrustedLine | None
    total_orders: int
    total_spent_minor: int
    currency: str


class CustomerOrders(OrderPage):
    """A page of one customer's orders."""

    customer: OrderingCustomer


@commerce.tool(read_only=True)
async def list_customers(
    ctx: ToolContext,
    accepts_marketing: Annotated[bool | None, Field(description="Whether they take marketing mail.")] = None,
    min_orders: Annotated[int | None, Field(ge=0, le=MOST_ID, description="At least so many orders.")] = None,
    min_spent_minor: Annotated[
        int | None, Field(ge=0, le=MOST_ID, description="At least so much spent, in minor units of their currency.")
    ] = None,
    limit: Limit = 10,
    cursor: Cursor = None,
) -> CustomerPage:
    """List customers, newest first, by any mix of filters.

    For a name, an email or a phone number use `search_customers`.
    """
    where: list[sa.ColumnElement[bool]] = []
    if accepts_marketing is not None:
        where.append(col(Customer.accepts_marketing) == accepts_marketing)
    if min_orders is not None:
        where.append(col(Customer.orders_count) >= sa.literal(min_orders, sa.BigInteger()))
    if min_spent_minor is not None:
        where.append(col(Customer.total_spent_minor) >= min_spent_minor)
    filters = (accepts_marketing, min_orders, min_spent_minor)
    listing = _listing("list_customers", filters, where, col(Customer.created_at))
    return _page(await listing.page(ctx, cursor, limit))


@commerce.tool(read_only=True)
async def search_customers(ctx: ToolContext, query: Query, limit: Limit = 10, cursor: Cursor = None) -> CustomerPage:
    """Find customers whose email, name or phone contains a text; those who spent most come first.

    To filter by orders, spend or marketing use `list_customers`.
    """
    where = [contains(query, Customer.email, _full_name(), Customer.phone)]
    listing = _listing("search_customers", (query,), where, col(Customer.total_spent_minor))
    return _page(await listing.page(ctx, cursor, limit))


@commerce.tool(read_only=True)
async def get_customer(ctx: ToolContext, customer_id: CustomerId) -> CustomerDetail:
    """Read one customer: contact, address, consent, counters, tags and notes.

    For their orders use `get_customer_orders`; to find the id `search_customers`.
    """
    row = await _customer(ctx, customer_id)
    plain = row._mapping
    return CustomerDetail.model_validate(
        {
            **plain,
            "name": CustomerName(first=row.first_name, last=row.last_name, full=_name(plain)),
            "default_address_untrusted": UntrustedAddress.read(row.default_address),
            "marketing": CustomerMarketing.model_validate(row, from_attributes=True),
            "stats": CustomerStats.model_validate(row, from_attributes=True),
            "notes_untrusted": row.note,
        }
    )


@commerce.tool(read_only=True)
async def get_customer_orders(
    ctx: ToolContext, customer_id: CustomerId, limit: Limit = 10, cursor: Cursor = None
) -> CustomerOrders:
    """List all orders of one customer, newest first, cancelled ones too.

    For orders of a guest use `list_orders` with `customer_email`.
    """
    row = await _customer(ctx, customer_id)
    where = [col(Order.customer_id) == customer_id]
    page = await order_page(ctx, "get_customer_orders", (customer_id,), where, cursor, limit)
    customer = OrderingCustomer.model_validate(
        {**row._mapping, "name": _name(row._mapping), "total_orders": row.orders_count}
    )
    return CustomerOrders(**dict(page), customer=customer)


async def _customer(ctx: ToolContext, customer_id: int) -> Any:
    rows: list[Any] = list(await ctx.db.rows(sa.select(Customer).where(col(Customer.id) == customer_id)))
    if not rows:
        raise no_such("customer", customer_id)
    return rows[0]


def _listing(
    name: str, filters: tuple[Any, ...], where: list[sa.ColumnElement[bool]], key: sa.SQLColumnExpression[Any]
) -> Listing:
    show = sa.select(*(col(getattr(Customer, column)) for column in _SHOWN))
    return Listing(name=name, filters=filters, show=show, counted=Customer, where=where, key=key, id=col(Customer.id))


def _page(page: Page) -> CustomerPage:
    return CustomerPage(
        customers=[CustomerSummary.model_validate({**row._mapping, "name": _name(row._mapping)}) for row in page.rows],
        total_count=page.total_count,
        next_cursor=page.next_cursor,
    )


def _full_name() -> sa.ColumnElement[str]:
    return sa.func.concat_ws(" ", Customer.first_name, Customer.last_name)


def _name(row: sa.RowMapping) -> str | None:
    return " ".join(filter(None, (row["first_name"], row["last_name"]))) or None
