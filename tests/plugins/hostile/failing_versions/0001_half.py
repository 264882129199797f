from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("create table migration_fails.half (id bigint)")
    op.execute("create table migration_fails.half (id bigint)")
