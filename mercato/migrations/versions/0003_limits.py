"""What a tenant may use: limits that an operator set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato.migrations.protect import protect_tenant_rows

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
A_MINUTE = ("tenant", "caller", "read", "write", "heavy", "lists")


def upgrade() -> None:
    """Create the table. Tools may read it; to change it is an operator's decision, and so the system's."""
    op.create_table(
        "tenant_limits",
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=True) for name in (*A_MINUTE, "cents_per_day")),
        *(sa.CheckConstraint(f"{name} between 1 and 1000000000", name=f"ck_tenant_limits_{name}") for name in A_MINUTE),
        sa.CheckConstraint("cents_per_day between 0 and 1000000000", name="ck_tenant_limits_cents_per_day"),
        sa.UniqueConstraint("tenant_id", name="uq_tenant_limits_tenant_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["mercato.tenants.id"], name="fk_tenant_limits_tenant_id"),
        schema="mercato",
    )
    protect_tenant_rows(op, "mercato.tenant_limits", app=("select",))
    op.execute("create policy system on mercato.tenant_limits for all to mercato_system using (true) with check (true)")
    op.execute("grant select, insert, update on mercato.tenant_limits to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("tenant_limits", schema="mercato")
