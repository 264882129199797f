"""The table of orders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato import protect_tenant_rows

revision = "bench_0001"
down_revision = None
branch_labels = ("bench",)
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the table, with row-level security forced."""
    op.create_table(
        "orders",
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("number", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("total_minor", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        schema="bench",
    )
    protect_tenant_rows(op, "bench.orders")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("orders", schema="bench")
