"""Alerts: what somebody should know of, once for each cause."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato.migrations.protect import protect_tenant_rows

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the table. A tenant may see its own; the deployment's have tenant 0."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("severity", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("occurrences", sa.Integer, nullable=False, server_default="1"),
        sa.Column("notices", sa.Integer, nullable=False, server_default="1"),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_by", sa.String, nullable=True),
        sa.CheckConstraint("severity in ('warning', 'critical')", name="ck_alerts_severity"),
        schema="mercato",
    )
    op.create_index(
        "uq_alerts_key",
        "alerts",
        ["tenant_id", "key"],
        unique=True,
        schema="mercato",
        postgresql_where=sa.text("resolved_at is null"),
    )
    op.create_index("ix_alerts_tenant_id_id", "alerts", ["tenant_id", "id"], schema="mercato")
    protect_tenant_rows(op, "mercato.alerts", app=("select",))
    op.execute("create policy system on mercato.alerts for all to mercato_system using (true) with check (true)")
    op.execute("grant select, insert, update, delete on mercato.alerts to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("alerts", schema="mercato")
