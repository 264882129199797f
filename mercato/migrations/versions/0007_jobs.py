"""The ledger of jobs, the ticks of their schedules, and what is paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from mercato.migrations.protect import protect_tenant_rows

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
STATES = "'queued', 'running', 'retrying', 'done', 'dead', 'cancelled'"
WAITING = "state in ('queued', 'retrying')"


def upgrade() -> None:
    """Create the tables. A tenant's tools see and change its own rows; workers are the system."""
    _jobs()
    _schedules()
    for table in ("mercato.jobs", "mercato.schedules", "mercato.ticks"):
        protect_tenant_rows(op, table, app=("select", "insert", "update") if table == "mercato.jobs" else ("select",))
        op.execute(f"create policy system on {table} for all to mercato_system using (true) with check (true)")
        op.execute(f"grant select, insert, update, delete on {table} to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")
    # Which tenants have connected what, for schedules that need it; nothing else of a connection.
    op.execute("create policy system on mercato.connections for select to mercato_system using (true)")
    op.execute("grant select (tenant_id, integration) on mercato.connections to mercato_system")


def downgrade() -> None:
    """Remove them."""
    op.execute("drop policy system on mercato.connections")
    op.execute("revoke select (tenant_id, integration) on mercato.connections from mercato_system")
    for table in ("ticks", "schedules", "jobs"):
        op.drop_table(table, schema="mercato")


def _jobs() -> None:
    """Ended rows are in none of the indexes that workers use, so that a long history costs the queue nothing."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("key", sa.String, nullable=True),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("rung_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.String, nullable=True),
        sa.Column("cancel_asked", sa.Boolean, nullable=False, server_default="false"),
        sa.Column("progress", JSONB, nullable=True),
        sa.Column("result", JSONB, nullable=True),
        sa.Column("error", sa.String, nullable=True),
        sa.Column("error_kind", sa.String, nullable=True),
        sa.Column("cost_cents", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state in ({STATES})", name="ck_jobs_state"),
        sa.CheckConstraint("(state = 'running') = (lease_until is not null)", name="ck_jobs_lease"),
        schema="mercato",
        postgresql_with={"fillfactor": 70},
    )
    lane = ["tenant_id", "priority", "due_at", "id"]
    op.create_index("ix_jobs_waiting", "jobs", lane, schema="mercato", postgresql_where=sa.text(WAITING))
    op.create_index(
        "uq_jobs_key",
        "jobs",
        ["tenant_id", "name", "key"],
        unique=True,
        schema="mercato",
        postgresql_where=sa.text(f"key is not null and {WAITING}"),
    )
    op.create_index(
        "ix_jobs_running",
        "jobs",
        ["name", "tenant_id"],
        schema="mercato",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_jobs_tenant_id_id", "jobs", ["tenant_id", "id"], schema="mercato")
    op.create_index(
        "ix_jobs_finished_at",
        "jobs",
        ["finished_at"],
        schema="mercato",
        postgresql_where=sa.text("state in ('done', 'dead', 'cancelled')"),
    )


def _schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("looked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False, server_default="false"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_schedules_tenant_id_name"),
        schema="mercato",
    )
    op.create_table(
        "ticks",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("tick", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("tenant_id", "name", "tick", name="uq_ticks_tenant_id_name_tick"),
        schema="mercato",
    )
