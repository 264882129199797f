"""The table of notes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato import protect_tenant_rows

revision = "chaos_0001"
down_revision = None
branch_labels = ("chaos",)
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the table, with row-level security forced. Nothing keeps a note from being there twice: that is tested."""
    op.create_table(
        "notes",
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notes"),
        schema="chaos",
    )
    protect_tenant_rows(op, "chaos.notes")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("notes", schema="chaos")
