"""Tenants, people, keys, grants, connections, settings, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mercato.migrations.protect import protect_tenant_rows

revision = "0001"
down_revision = None
branch_labels = ("mercato",)
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Create the core's tables, with row-level security forced on all that hold a tenant's rows."""
    _tenants_and_users()
    _memberships_and_keys()
    _what_is_on()
    _audit()
    _policies()


def downgrade() -> None:
    """Remove the core's tables."""
    op.execute("drop schema mercato cascade")


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True)


def _tenant_id() -> sa.Column[int]:
    return sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT))


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.now()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _text(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=nullable, server_default=default)


def _json(name: str, default: str | None = None) -> sa.Column[object]:
    server_default = sa.text(default) if default else None
    return sa.Column(name, postgresql.JSONB, nullable=False, server_default=server_default)


def _of_tenant(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id"], ["mercato.tenants.id"], name=f"fk_{table}_tenant_id")


def _unique(table: str, *columns: str, nulls_not_distinct: bool = False) -> sa.UniqueConstraint:
    name = f"uq_{table}_{'_'.join(columns)}"
    return sa.UniqueConstraint(*columns, name=name, postgresql_nulls_not_distinct=nulls_not_distinct)


def _tenants_and_users() -> None:
    op.create_table(
        "tenants",
        _id(),
        _text("slug"),
        _text("name"),
        _text("currency", default="USD"),
        _text("timezone", default="UTC"),
        _time("created_at"),
        _time("removed_at", nullable=True),
        _unique("tenants", "slug"),
        schema="mercato",
    )
    op.create_table(
        "users",
        _id(),
        _text("email"),
        _text("name"),
        _time("created_at"),
        _time("last_login_at", nullable=True),
        _unique("users", "email"),
        schema="mercato",
    )


def _memberships_and_keys() -> None:
    op.create_table(
        "memberships",
        _tenant_id(),
        _id(),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        _text("role"),
        _time("created_at"),
        _time("removed_at", nullable=True),
        _unique("memberships", "tenant_id", "id"),
        _unique("memberships", "tenant_id", "user_id"),
        sa.CheckConstraint("role in ('owner', 'admin', 'manager', 'member', 'viewer')", name="ck_memberships_role"),
        _of_tenant("memberships"),
        sa.ForeignKeyConstraint(["user_id"], ["mercato.users.id"], name="fk_memberships_user_id"),
        schema="mercato",
    )
    op.create_table(
        "api_keys",
        _tenant_id(),
        _id(),
        sa.Column("membership_id", sa.BigInteger, nullable=False),
        _text("name"),
        _text("shown"),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("last_used_at", nullable=True),
        _time("revoked_at", nullable=True),
        _unique("api_keys", "digest"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "membership_id"],
            ["mercato.memberships.tenant_id", "mercato.memberships.id"],
            name="fk_api_keys_tenant_id_membership_id",
        ),
        schema="mercato",
    )
    op.create_index("ix_api_keys_tenant_id_membership_id", "api_keys", ["tenant_id", "membership_id"], schema="mercato")


def _what_is_on() -> None:
    for table, column in (("grants", "category"), ("disabled_tools", "tool")):
        op.create_table(
            table,
            _tenant_id(),
            _id(),
            _text(column),
            _time("created_at"),
            _unique(table, "tenant_id", column),
            _of_tenant(table),
            schema="mercato",
        )
    op.create_table(
        "connections",
        _tenant_id(),
        _id(),
        _text("integration"),
        _text("account"),
        sa.Column("user_id", sa.BigInteger, nullable=True),
        _json("settings", "'{}'::jsonb"),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        _time("created_at"),
        _time("updated_at"),
        _unique("connections", "tenant_id", "integration", "account", "user_id", nulls_not_distinct=True),
        _of_tenant("connections"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["mercato.memberships.tenant_id", "mercato.memberships.user_id"],
            name="fk_connections_tenant_id_user_id",
        ),
        schema="mercato",
    )
    op.create_table(
        "tenant_settings",
        _tenant_id(),
        _id(),
        _text("section"),
        _json("values", "'{}'::jsonb"),
        _unique("tenant_settings", "tenant_id", "section"),
        _of_tenant("tenant_settings"),
        schema="mercato",
    )


def _audit() -> None:
    op.create_table(
        "audit_entries",
        _tenant_id(),
        _id(),
        _time("at"),
        sa.Column("user_id", sa.BigInteger, nullable=True),
        _text("kind"),
        sa.Column("credential_id", sa.BigInteger, nullable=True),
        _text("client_id", nullable=True),
        _text("request_id", nullable=True),
        _text("action"),
        _json("arguments"),
        _json("effect"),
        _of_tenant("audit_entries"),
        schema="mercato",
    )
    op.create_index("ix_audit_entries_tenant_id_id", "audit_entries", ["tenant_id", "id"], schema="mercato")


def _policies() -> None:
    for table in ("memberships", "api_keys", "grants", "disabled_tools", "connections", "tenant_settings"):
        protect_tenant_rows(op, f"mercato.{table}")
    protect_tenant_rows(op, "mercato.audit_entries", app=("select", "insert"))
    _policies_of_shared_tables()
    _policies_of_the_system()


def _policies_of_shared_tables() -> None:
    """A tenant sees itself, and the people who are its members."""
    for table in ("tenants", "users"):
        op.execute(f"alter table mercato.{table} enable row level security")
        op.execute(f"alter table mercato.{table} force row level security")
    op.execute(f"create policy tenant on mercato.tenants for all to mercato_app using (id = (select {CURRENT_TENANT}))")
    op.execute(
        "create policy members on mercato.users for select to mercato_app"
        " using (exists (select from mercato.memberships where user_id = users.id))"
    )
    op.execute("grant select on mercato.users to mercato_app")
    op.execute("grant select, update (name, currency, timezone) on mercato.tenants to mercato_app")


def _policies_of_the_system() -> None:
    """What must be read before the tenant is known, and tenants and people, who belong to none."""
    op.execute("grant usage on schema mercato to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")
    for table, rights in (
        ("tenants", "select, insert, update"),
        ("users", "select, insert, update"),
        ("memberships", "select"),
        ("api_keys", "select, update"),
    ):
        op.execute(f"create policy system on mercato.{table} for all to mercato_system using (true) with check (true)")
        op.execute(f"grant {rights} on mercato.{table} to mercato_system")
