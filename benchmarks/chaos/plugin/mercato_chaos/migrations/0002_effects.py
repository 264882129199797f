"""The tables of effects, and of the lots in which they were asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato import protect_tenant_rows

revision = "chaos_0002"
down_revision = "chaos_0001"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the tables. Nothing keeps an effect from being there twice: that is tested."""
    _create("effects", "number", "run_id")
    _create("lots", "first")


def downgrade() -> None:
    """Remove them."""
    for table in ("lots", "effects"):
        op.drop_table(table, schema="chaos")


def _create(table: str, *numbers: str) -> None:
    op.create_table(
        table,
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in numbers),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        schema="chaos",
    )
    protect_tenant_rows(op, f"chaos.{table}")
