"""Customers, products with their variants and stock, orders with their lines.

Money is integer minor units of the row's ISO 4217 `currency`; times are UTC. `external_id` is the id in the shop that a
row came from, unique to the tenant, and empty for rows that were made here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from mercato import TenantOwned, identity, reference, timestamp

ORDER_STATUSES = ("pending", "confirmed", "processing", "shipped", "delivered", "cancelled", "refunded")
FULFILLMENT_STATUSES = ("unfulfilled", "partial", "fulfilled")
FINANCIAL_STATUSES = (
    "pending",
    "authorized",
    "paid",
    "partially_paid",
    "partially_refunded",
    "refunded",
    "voided",
)
PRODUCT_STATUSES = ("draft", "active", "archived")
INVENTORY_POLICIES = ("deny", "continue")


def _minor(*, nullable: bool = False) -> Any:
    """Return a field of money in minor units; bigint, because a total may pass two billion."""
    if nullable:
        return Field(default=None, sa_type=sa.BigInteger, nullable=True)
    return Field(default=0, sa_type=sa.BigInteger, nullable=False, sa_column_kwargs={"server_default": "0"})


def _tags() -> Any:
    return Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        nullable=False,
        sa_column_kwargs={"server_default": sa.text("'{}'::text[]")},
    )


def _email_key() -> Any:
    """Return a field that the database keeps: `email` in lower case, to find it by.

    An index on `lower(email)` itself is of no use under row-level security, which lets the planner look things up only
    by functions that are marked leakproof; `lower` is not.
    """
    return Field(default=None, sa_column_args=[sa.Computed("lower((email)::text)", persisted=True)])


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} in ({', '.join(repr(value) for value in values)})", name=column)


class Customer(TenantOwned, table=True):
    """A customer.

    `orders_count` is the number of their orders that are not cancelled, `total_spent_minor` what those in the
    customer's `currency` came to, less what was refunded, paid or not. Whatever writes orders keeps both right.
    """

    __tablename__ = "customers"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "id"),
        sa.UniqueConstraint("tenant_id", "external_id"),
        sa.Index(None, "tenant_id", "email_key"),
        sa.Index(None, "tenant_id", "created_at", "id"),
        sa.Index(None, "tenant_id", "total_spent_minor", "id"),
        {"schema": "commerce"},
    )

    id: int = identity()
    external_id: str | None = None
    email: str | None = None
    email_key: str | None = _email_key()
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    default_address: dict[str, Any] | None = Field(default=None, sa_type=JSONB, nullable=True)
    accepts_marketing: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    orders_count: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    total_spent_minor: int = _minor()
    currency: str
    tags: list[str] = _tags()
    note: str | None = None
    created_at: datetime = timestamp(now=True)
    updated_at: datetime = timestamp(now=True)


class Product(TenantOwned, table=True):
    """A product; its prices and stock are its variants'."""

    __tablename__ = "products"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "id"),
        sa.UniqueConstraint("tenant_id", "external_id"),
        sa.UniqueConstraint("tenant_id", "handle"),
        _one_of("status", PRODUCT_STATUSES),
        sa.Index(None, "tenant_id", "created_at", "id"),
        {"schema": "commerce"},
    )

    id: int = identity()
    external_id: str | None = None
    handle: str
    title: str
    description: str = Field(default="", sa_column_kwargs={"server_default": ""})
    vendor: str | None = None
    product_type: str | None = None
    status: str = Field(default="draft", sa_column_kwargs={"server_default": "draft"})
    currency: str
    tags: list[str] = _tags()
    options: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSONB, nullable=False, sa_column_kwargs={"server_default": sa.text("'[]'::jsonb")}
    )
    image_urls: list[str] = _tags()
    seo_title: str | None = None
    seo_description: str | None = None
    published_at: datetime | None = timestamp(nullable=True)
    created_at: datetime = timestamp(now=True)
    updated_at: datetime = timestamp(now=True)


class Variant(TenantOwned, table=True):
    """What is sold and counted: one of a product's variants. A product without options has exactly one.

    `inventory_quantity` may be below zero only where it was imported so (a shop that sold what it had not).
    """

    __tablename__ = "variants"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "id"),
        sa.UniqueConstraint("tenant_id", "external_id"),
        sa.UniqueConstraint("tenant_id", "product_id", "position"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["commerce.products.tenant_id", "commerce.products.id"],
            ondelete="CASCADE",
        ),
        _one_of("inventory_policy", INVENTORY_POLICIES),
        {"schema": "commerce"},
    )

    id: int = identity()
    product_id: int = reference()
    external_id: str | None = None
    position: int = 1
    title: str
    sku: str | None = None
    barcode: str | None = None
    option_values: list[str] = _tags()
    price_minor: int = _minor()
    compare_at_price_minor: int | None = _minor(nullable=True)
    inventory_tracked: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    inventory_quantity: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    inventory_policy: str = Field(default="deny", sa_column_kwargs={"server_default": "deny"})
    created_at: datetime = timestamp(now=True)
    updated_at: datetime = timestamp(now=True)


class StockMovement(TenantOwned, table=True):
    """One change of a variant's stock, with its reason: the ledger behind `inventory_quantity`. Only ever added to."""

    __tablename__ = "stock_movements"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["tenant_id", "variant_id"],
            ["commerce.variants.tenant_id", "commerce.variants.id"],
            ondelete="CASCADE",
        ),
        sa.Index(None, "tenant_id", "variant_id", "id"),
        {"schema": "commerce"},
    )

    id: int = identity()
    variant_id: int = reference()
    change: int
    quantity_after: int
    reason: str
    user_id: int | None = reference(nullable=True)
    at: datetime = timestamp(now=True)


class Order(TenantOwned, table=True):
    """An order. `customer_note` was written by a stranger; `staff_notes` by the tenant's people and tools."""

    __tablename__ = "orders"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "id"),
        sa.UniqueConstraint("tenant_id", "external_id"),
        sa.UniqueConstraint("tenant_id", "number"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "customer_id"], ["commerce.customers.tenant_id", "commerce.customers.id"]
        ),
        _one_of("status", ORDER_STATUSES),
        _one_of("fulfillment_status", FULFILLMENT_STATUSES),
        _one_of("financial_status", FINANCIAL_STATUSES),
        sa.Index(None, "tenant_id", "placed_at", "id"),
        sa.Index(None, "tenant_id", "customer_id", "placed_at", "id"),
        sa.Index(None, "tenant_id", "email_key"),
        {"schema": "commerce"},
    )

    id: int = identity()
    external_id: str | None = None
    number: str
    customer_id: int | None = reference(nullable=True)
    email: str | None = None
    email_key: str | None = _email_key()
    status: str = Field(default="pending", sa_column_kwargs={"server_default": "pending"})
    fulfillment_status: str = Field(default="unfulfilled", sa_column_kwargs={"server_default": "unfulfilled"})
    financial_status: str = Field(default="pending", sa_column_kwargs={"server_default": "pending"})
    currency: str
    subtotal_minor: int = _minor()
    discount_minor: int = _minor()
    shipping_minor: int = _minor()
    tax_minor: int = _minor()
    total_minor: int = _minor()
    refunded_minor: int = _minor()
    discount_codes: list[str] = _tags()
    shipping_address: dict[str, Any] | None = Field(default=None, sa_type=JSONB, nullable=True)
    billing_address: dict[str, Any] | None = Field(default=None, sa_type=JSONB, nullable=True)
    tags: list[str] = _tags()
    customer_note: str | None = None
    staff_notes: str | None = None
    cancel_reason: str | None = None
    placed_at: datetime = timestamp(now=True)
    fulfilled_at: datetime | None = timestamp(nullable=True)
    cancelled_at: datetime | None = timestamp(nullable=True)
    created_at: datetime = timestamp(now=True)
    updated_at: datetime = timestamp(now=True)


class OrderLine(TenantOwned, table=True):
    """One line of an order. The title and price are those of the day; the variant may be gone since."""

    __tablename__ = "order_lines"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "order_id", "position"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "order_id"], ["commerce.orders.tenant_id", "commerce.orders.id"], ondelete="CASCADE"
        ),
        sa.Index(None, "tenant_id", "variant_id"),
        {"schema": "commerce"},
    )

    id: int = identity()
    order_id: int = reference()
    position: int
    variant_id: int | None = reference(nullable=True)
    product_id: int | None = reference(nullable=True)
    sku: str | None = None
    title: str
    quantity: int
    price_minor: int = _minor()
    discount_minor: int = _minor()
    fulfillment_status: str = Field(default="unfulfilled", sa_column_kwargs={"server_default": "unfulfilled"})
