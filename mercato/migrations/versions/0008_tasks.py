"""Runs that a client of MCP follows as tasks: their ids, and what is asked and answered while they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BEFORE = "'queued', 'running', 'retrying', 'done', 'dead', 'cancelled'"
NOW = "'queued', 'running', 'retrying', 'waiting', 'done', 'dead', 'cancelled'"
OPEN_TASK = "task_id is not null and state not in ('done', 'dead', 'cancelled')"


def upgrade() -> None:
    """Add the columns, and the state of a run that waits for an answer."""
    op.add_column("jobs", sa.Column("task_id", sa.Uuid, nullable=True), schema="mercato")
    op.add_column("jobs", sa.Column("exchange", JSONB, nullable=True), schema="mercato")
    _states(NOW)
    op.create_index(
        "uq_jobs_task_id",
        "jobs",
        ["task_id"],
        unique=True,
        schema="mercato",
        postgresql_where=sa.text("task_id is not null"),
    )
    op.create_index("ix_jobs_dead", "jobs", ["name"], schema="mercato", postgresql_where=sa.text("state = 'dead'"))
    op.create_index("ix_jobs_open_tasks", "jobs", ["tenant_id"], schema="mercato", postgresql_where=sa.text(OPEN_TASK))


def downgrade() -> None:
    """Remove them; what waits for an answer will never get one."""
    op.execute("update mercato.jobs set state = 'cancelled', finished_at = now() where state = 'waiting'")
    for index in ("ix_jobs_open_tasks", "ix_jobs_dead", "uq_jobs_task_id"):
        op.drop_index(index, "jobs", schema="mercato")
    _states(BEFORE)
    for column in ("exchange", "task_id"):
        op.drop_column("jobs", column, schema="mercato")


def _states(states: str) -> None:
    op.drop_constraint("ck_jobs_state", "jobs", schema="mercato")
    op.create_check_constraint("ck_jobs_state", "jobs", f"state in ({states})", schema="mercato")
