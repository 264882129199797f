"""Schedules run for tenants that have a category of the plugin on: who looks at the clock may see which those are."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the workers see who has what on."""
    op.execute("create policy system on mercato.grants for select to mercato_system using (true)")
    op.execute("grant select (tenant_id, category) on mercato.grants to mercato_system")


def downgrade() -> None:
    """Let them not."""
    op.execute("revoke select (tenant_id, category) on mercato.grants from mercato_system")
    op.execute("drop policy system on mercato.grants")
