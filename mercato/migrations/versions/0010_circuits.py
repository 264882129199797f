"""What is known of outside services that do not answer, for jobs to wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato.migrations.protect import protect_tenant_rows

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the table. A tenant may see what it waits for; workers are the system."""
    op.create_table(
        "circuits",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("integration", sa.String, nullable=False),
        sa.Column("outages", sa.Integer, nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("open_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pauses", sa.Integer, nullable=False, server_default="0"),
        sa.Column("trial_job_id", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("tenant_id", "integration", name="uq_circuits_tenant_id_integration"),
        schema="mercato",
    )
    protect_tenant_rows(op, "mercato.circuits", app=("select",))
    op.execute("create policy system on mercato.circuits for all to mercato_system using (true) with check (true)")
    op.execute("grant select, insert, update, delete on mercato.circuits to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("circuits", schema="mercato")
