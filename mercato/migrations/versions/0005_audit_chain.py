"""The audit log as a chain, so that a removed row shows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mercato.migrations.protect import protect_tenant_rows

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
WRITTEN = (
    "tenant_id, at, user_id, kind, credential_id, client_id, request_id, action, arguments, effect,"
    " salt, arguments_digest, effect_digest"
)
SEALED = "salt, arguments_digest, effect_digest, number, seal"
ERASED = "arguments, effect, salt, erased_at, erasure"


def upgrade() -> None:
    """Create what the chain is made of. What was written before is sealed by the server, once it runs."""
    for name in ("salt", "arguments_digest", "effect_digest", "seal", "erasure"):
        op.add_column("audit_entries", sa.Column(name, sa.LargeBinary, nullable=True), schema="mercato")
    op.add_column("audit_entries", sa.Column("number", sa.BigInteger, nullable=True), schema="mercato")
    op.add_column("audit_entries", _time("erased_at", nullable=True), schema="mercato")
    op.create_index(
        "ix_audit_entries_tenant_id_number",
        "audit_entries",
        ["tenant_id", "number"],
        unique=True,
        schema="mercato",
        postgresql_where=sa.text("number is not null"),
    )
    op.create_index(
        "ix_audit_entries_id",
        "audit_entries",
        ["id"],
        schema="mercato",
        postgresql_where=sa.text("number is null"),
    )
    _heads_and_anchors()
    _policies()


def downgrade() -> None:
    """Remove the chain; the entries stay."""
    op.execute("revoke all on mercato.audit_entries from mercato_app, mercato_system")
    op.execute("grant select, insert on mercato.audit_entries to mercato_app")
    op.execute("drop policy system on mercato.audit_entries")
    op.drop_table("audit_anchors", schema="mercato")
    op.drop_table("audit_heads", schema="mercato")
    for name in ("salt", "arguments_digest", "effect_digest", "seal", "erasure", "number", "erased_at"):
        op.drop_column("audit_entries", name, schema="mercato")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _table(name: str, *columns: sa.Column[object] | sa.Column[int] | sa.Column[bytes], unique: str) -> None:
    op.create_table(
        name,
        sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT)),
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
        *columns,
        sa.UniqueConstraint(*unique.split(), name=f"uq_{name}_{unique.replace(' ', '_')}"),
        sa.ForeignKeyConstraint(["tenant_id"], ["mercato.tenants.id"], name=f"fk_{name}_tenant_id"),
        schema="mercato",
    )


def _heads_and_anchors() -> None:
    _table("audit_heads", _count("number"), _bytes("seal"), _time("sealed_at"), _bytes("signature"), unique="tenant_id")
    _table(
        "audit_anchors",
        _count("first_number"),
        _count("number"),
        _bytes("seal"),
        _count("entries"),
        _time("first_at"),
        _time("last_at"),
        _time("pruned_at"),
        _bytes("signature"),
        unique="tenant_id number",
    )


def _policies() -> None:
    """Tools add entries and read them, and that is all; what is the chain's own they cannot even write at first."""
    op.execute("revoke insert on mercato.audit_entries from mercato_app")
    op.execute(f"grant insert ({WRITTEN}) on mercato.audit_entries to mercato_app")
    protect_tenant_rows(op, "mercato.audit_heads", app=())
    protect_tenant_rows(op, "mercato.audit_anchors", app=())
    for table in ("audit_entries", "audit_heads", "audit_anchors"):
        op.execute(f"create policy system on mercato.{table} for all to mercato_system using (true) with check (true)")
    op.execute("grant select, insert, delete on mercato.audit_entries to mercato_system")
    op.execute(f"grant update ({SEALED}), update ({ERASED}) on mercato.audit_entries to mercato_system")
    op.execute("grant select, insert, update on mercato.audit_heads to mercato_system")
    op.execute("grant select, insert on mercato.audit_anchors to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")
