"""Exports, in parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato.migrations.protect import protect_tenant_rows

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the table. The system removes what is past its time, and reads nothing else of it."""
    op.create_table(
        "export_parts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("export_id", sa.Uuid, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=True),
        sa.Column("content", sa.String, nullable=False),
        sa.Column("characters", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["mercato.tenants.id"], name="fk_export_parts_tenant_id"),
        sa.UniqueConstraint("tenant_id", "export_id", "part", name="uq_export_parts_tenant_id_export_id_part"),
        schema="mercato",
    )
    op.create_index("ix_export_parts_expires_at", "export_parts", ["expires_at"], schema="mercato")
    table = "mercato.export_parts"
    protect_tenant_rows(op, table, app=("select", "insert"))
    op.execute(f"create policy system on {table} for all to mercato_system using (true) with check (false)")
    op.execute(f"grant delete, select (id, expires_at) on {table} to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_app")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("export_parts", schema="mercato")
