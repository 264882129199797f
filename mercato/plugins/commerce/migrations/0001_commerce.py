"""Customers, products with their variants and stock, orders with their lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mercato import protect_tenant_rows

revision = "commerce_0001"
down_revision = None
branch_labels = ("commerce",)
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the plugin's tables, with row-level security forced on each; the ledger of stock is only added to."""
    _customers()
    _products()
    _variants()
    _stock_movements()
    _orders()
    _order_lines()
    for table in ("customers", "products", "variants", "orders", "order_lines"):
        protect_tenant_rows(op, f"commerce.{table}")
    protect_tenant_rows(op, "commerce.stock_movements", app=("select", "insert"))


def downgrade() -> None:
    """Remove the plugin's tables."""
    for table in ("order_lines", "orders", "stock_movements", "variants", "products", "customers"):
        op.drop_table(table, schema="commerce")


def _create(table: str, *items: sa.schema.SchemaItem) -> None:
    op.create_table(
        table,
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        *items,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        schema="commerce",
    )


def _text(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=nullable, server_default=default)


def _email() -> tuple[sa.Column[str], sa.Column[str]]:
    key = sa.Column("email_key", sa.String, sa.Computed("lower((email)::text)", persisted=True), nullable=True)
    return _text("email", nullable=True), key


def _texts(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'::text[]"))


def _reference(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _minor(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable, server_default=None if nullable else "0")


def _count(name: str, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=default)


def _flag(name: str, default: sa.ColumnElement[bool]) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=default)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB, nullable=True)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.now()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint("tenant_id", *columns, name=f"uq_{table}_{'_'.join(('tenant_id', *columns))}")


def _belongs_to(table: str, column: str, other: str, *, cascade: bool = False) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        [f"commerce.{other}.tenant_id", f"commerce.{other}.id"],
        name=f"fk_{table}_tenant_id_{column}",
        ondelete="CASCADE" if cascade else None,
    )


def _one_of(table: str, column: str, *values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} in ({listed})", name=f"ck_{table}_{column}")


def _index(table: str, *columns: str) -> None:
    names = ("tenant_id", *columns)
    op.create_index(f"ix_{table}_{'_'.join(names)}", table, list(names), schema="commerce")


def _customers() -> None:
    _create(
        "customers",
        _text("external_id", nullable=True),
        *_email(),
        _text("phone", nullable=True),
        _text("first_name", nullable=True),
        _text("last_name", nullable=True),
        _json("default_address"),
        _flag("accepts_marketing", sa.false()),
        _count("orders_count", "0"),
        _minor("total_spent_minor"),
        _text("currency"),
        _texts("tags"),
        _text("note", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _unique("customers", "id"),
        _unique("customers", "external_id"),
    )
    _index("customers", "email_key")
    _index("customers", "created_at", "id")
    _index("customers", "total_spent_minor", "id")


def _products() -> None:
    _create(
        "products",
        _text("external_id", nullable=True),
        _text("handle"),
        _text("title"),
        _text("description", default=""),
        _text("vendor", nullable=True),
        _text("product_type", nullable=True),
        _text("status", default="draft"),
        _text("currency"),
        _texts("tags"),
        sa.Column("options", postgresql.JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
        _texts("image_urls"),
        _text("seo_title", nullable=True),
        _text("seo_description", nullable=True),
        _time("published_at", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _unique("products", "id"),
        _unique("products", "external_id"),
        _unique("products", "handle"),
        _one_of("products", "status", "draft", "active", "archived"),
    )
    _index("products", "created_at", "id")


def _variants() -> None:
    _create(
        "variants",
        _reference("product_id"),
        _text("external_id", nullable=True),
        _count("position"),
        _text("title"),
        _text("sku", nullable=True),
        _text("barcode", nullable=True),
        _texts("option_values"),
        _minor("price_minor"),
        _minor("compare_at_price_minor", nullable=True),
        _flag("inventory_tracked", sa.true()),
        _count("inventory_quantity", "0"),
        _text("inventory_policy", default="deny"),
        _time("created_at"),
        _time("updated_at"),
        _unique("variants", "id"),
        _unique("variants", "external_id"),
        _unique("variants", "product_id", "position"),
        _belongs_to("variants", "product_id", "products", cascade=True),
        _one_of("variants", "inventory_policy", "deny", "continue"),
    )


def _stock_movements() -> None:
    _create(
        "stock_movements",
        _reference("variant_id"),
        _count("change"),
        _count("quantity_after"),
        _text("reason"),
        _reference("user_id", nullable=True),
        _time("at"),
        _belongs_to("stock_movements", "variant_id", "variants", cascade=True),
    )
    _index("stock_movements", "variant_id", "id")


def _orders() -> None:
    _create(
        "orders",
        _text("external_id", nullable=True),
        _text("number"),
        _reference("customer_id", nullable=True),
        *_email(),
        _text("status", default="pending"),
        _text("fulfillment_status", default="unfulfilled"),
        _text("financial_status", default="pending"),
        _text("currency"),
        *(_minor(f"{name}_minor") for name in ("subtotal", "discount", "shipping", "tax", "total", "refunded")),
        _texts("discount_codes"),
        _json("shipping_address"),
        _json("billing_address"),
        _texts("tags"),
        _text("customer_note", nullable=True),
        _text("staff_notes", nullable=True),
        _text("cancel_reason", nullable=True),
        _time("placed_at"),
        _time("fulfilled_at", nullable=True),
        _time("cancelled_at", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _unique("orders", "id"),
        _unique("orders", "external_id"),
        _unique("orders", "number"),
        _belongs_to("orders", "customer_id", "customers"),
        *_order_checks(),
    )
    _index("orders", "placed_at", "id")
    _index("orders", "customer_id", "placed_at", "id")
    _index("orders", "email_key")


def _order_checks() -> list[sa.CheckConstraint]:
    steps = ("pending", "confirmed", "processing", "shipped", "delivered", "cancelled", "refunded")
    payments = ("pending", "authorized", "paid", "partially_paid", "partially_refunded", "refunded", "voided")
    return [
        _one_of("orders", "status", *steps),
        _one_of("orders", "fulfillment_status", "unfulfilled", "partial", "fulfilled"),
        _one_of("orders", "financial_status", *payments),
    ]


def _order_lines() -> None:
    _create(
        "order_lines",
        _reference("order_id"),
        _count("position"),
        _reference("variant_id", nullable=True),
        _reference("product_id", nullable=True),
        _text("sku", nullable=True),
        _text("title"),
        _count("quantity"),
        _minor("price_minor"),
        _minor("discount_minor"),
        _text("fulfillment_status", default="unfulfilled"),
        _unique("order_lines", "order_id", "position"),
        _belongs_to("order_lines", "order_id", "orders", cascade=True),
    )
    _index("order_lines", "variant_id")
