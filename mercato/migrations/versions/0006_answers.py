"""Answers of writes that may not have reached their caller."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato.migrations.protect import protect_tenant_rows

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the table. A tenant's calls read and add; what became of an answer is written by the system."""
    op.create_table(
        "answers",
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        sa.Column("principal", sa.String, nullable=False),
        sa.Column("tool", sa.String, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("key_digest", sa.LargeBinary, nullable=True),
        sa.Column("state_digest", sa.LargeBinary, nullable=True),
        sa.Column("sealed", sa.LargeBinary, nullable=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("tenant_id", "state_digest", name="uq_answers_tenant_id_state_digest"),
        sa.ForeignKeyConstraint(["tenant_id"], ["mercato.tenants.id"], name="fk_answers_tenant_id"),
        sa.CheckConstraint(
            "status in ('committed', 'delivered', 'undelivered', 'abandoned')", name="ck_answers_status"
        ),
        sa.CheckConstraint("(status = 'abandoned') = (sealed is null)", name="ck_answers_sealed"),
        schema="mercato",
    )
    op.create_index("ix_answers_tenant_id_fingerprint", "answers", ["tenant_id", "fingerprint"], schema="mercato")
    op.create_index(
        "ix_answers_tenant_id_key_digest",
        "answers",
        ["tenant_id", "key_digest"],
        schema="mercato",
        postgresql_where=sa.text("key_digest is not null"),
    )
    op.create_index("ix_answers_created_at", "answers", ["created_at"], schema="mercato")
    protect_tenant_rows(op, "mercato.answers", app=("select", "insert"))
    op.execute("create policy system on mercato.answers for all to mercato_system using (true) with check (true)")
    op.execute("grant select, insert, update, delete on mercato.answers to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("answers", schema="mercato")
