"""Sign-in, OAuth clients, what they were allowed, and the keys that sign."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mercato.migrations.protect import protect_tenant_rows

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
OF_NOBODY = ("passwords", "identities", "sessions", "oauth_clients", "signing_keys", "used_assertions")
OF_A_TENANT = ("invitations", "client_grants", "authorization_codes", "refresh_answers")


def upgrade() -> None:
    """Create the tables of identity. Tools reach none of those that hold a secret."""
    _accounts()
    _invitations()
    _clients()
    _grants()
    _codes()
    _keys()
    _policies()


def downgrade() -> None:
    """Remove them."""
    op.drop_column("memberships", "changed_at", schema="mercato")
    for table in ("refresh_answers", "authorization_codes", "client_grants", "invitations", *OF_NOBODY):
        op.drop_table(table, schema="mercato")


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True)


def _tenant_id() -> sa.Column[int]:
    return sa.Column("tenant_id", sa.BigInteger, nullable=False, server_default=sa.text(CURRENT_TENANT))


def _reference(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _time(name: str, *, nullable: bool = False, now: bool = False) -> sa.Column[object]:
    default = sa.func.now() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=nullable)


def _texts(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, postgresql.ARRAY(sa.Text), nullable=False)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=nullable)


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns), schema="mercato")


def _of_user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["mercato.users.id"], name=f"fk_{table}_user_id")


def _of(table: str, column: str, other: str, other_columns: Sequence[str]) -> sa.ForeignKeyConstraint:
    remote = [f"mercato.{other}.{name}" for name in other_columns]
    name = f"fk_{table}_tenant_id_{column}"
    return sa.ForeignKeyConstraint(["tenant_id", column], remote, name=name, ondelete="CASCADE")


def _of_member(table: str) -> sa.ForeignKeyConstraint:
    remote = ["mercato.memberships.tenant_id", "mercato.memberships.id"]
    name = f"fk_{table}_tenant_id_membership_id"
    return sa.ForeignKeyConstraint(["tenant_id", "membership_id"], remote, name=name)


def _accounts() -> None:
    op.create_table(
        "passwords",
        sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("hash"),
        _time("changed_at", now=True),
        _of_user("passwords"),
        schema="mercato",
    )
    op.create_table(
        "identities",
        _id(),
        _reference("user_id"),
        _text("issuer"),
        _text("subject"),
        _time("created_at", now=True),
        _unique("identities", "issuer", "subject"),
        _of_user("identities"),
        schema="mercato",
    )
    op.create_table(
        "sessions",
        _id(),
        _reference("user_id"),
        _reference("chosen_tenant_id", nullable=True),
        _bytes("digest"),
        _text("device"),
        _time("created_at", now=True),
        _time("last_seen_at", now=True),
        _time("expires_at"),
        _unique("sessions", "digest"),
        _of_user("sessions"),
        schema="mercato",
    )
    _index("sessions", "user_id")
    _index("sessions", "expires_at")


def _invitations() -> None:
    op.add_column("memberships", _time("changed_at", now=True), schema="mercato")
    op.create_table(
        "invitations",
        _tenant_id(),
        _id(),
        _text("email"),
        _text("role"),
        _reference("invited_by_user_id", nullable=True),
        _time("created_at", now=True),
        _time("expires_at"),
        _time("accepted_at", nullable=True),
        _time("revoked_at", nullable=True),
        sa.CheckConstraint("role in ('owner', 'admin', 'manager', 'member', 'viewer')", name="ck_invitations_role"),
        sa.ForeignKeyConstraint(["tenant_id"], ["mercato.tenants.id"], name="fk_invitations_tenant_id"),
        schema="mercato",
    )
    _index("invitations", "tenant_id", "email")


def _clients() -> None:
    op.create_table(
        "oauth_clients",
        _id(),
        _text("client_id"),
        _text("kind"),
        _text("name"),
        _texts("redirect_uris"),
        _text("auth_method"),
        _bytes("secret_digest", nullable=True),
        sa.Column("jwks", postgresql.JSONB, nullable=True),
        _text("jwks_uri", nullable=True),
        _text("home", nullable=True),
        sa.Column("introspects", sa.Boolean, nullable=False, server_default=sa.false()),
        _time("created_at", now=True),
        _time("last_used_at", nullable=True),
        _time("fresh_until", nullable=True),
        _text("etag", nullable=True),
        _unique("oauth_clients", "client_id"),
        sa.CheckConstraint("kind in ('static', 'registered', 'document')", name="ck_oauth_clients_kind"),
        schema="mercato",
    )
    _index("oauth_clients", "kind", "created_at")


def _grants() -> None:
    op.create_table(
        "client_grants",
        _tenant_id(),
        _id(),
        _reference("membership_id"),
        _text("client_id"),
        _text("client_name"),
        _text("redirect_host"),
        _texts("scopes"),
        _text("resource"),
        _time("created_at", now=True),
        _time("last_used_at", nullable=True),
        _bytes("refresh_digest"),
        _time("expires_at"),
        _time("revoked_at", nullable=True),
        _text("revoked_because", nullable=True),
        _unique("client_grants", "tenant_id", "id"),
        _of_member("client_grants"),
        schema="mercato",
    )
    _index("client_grants", "tenant_id", "membership_id")
    _index("client_grants", "client_id")
    op.create_table(
        "refresh_answers",
        _tenant_id(),
        _id(),
        _reference("grant_id"),
        _bytes("digest"),
        _bytes("sealed"),
        _time("rotated_at", now=True),
        _unique("refresh_answers", "digest"),
        _of("refresh_answers", "grant_id", "client_grants", ("tenant_id", "id")),
        schema="mercato",
    )
    _index("refresh_answers", "tenant_id", "grant_id")


def _codes() -> None:
    op.create_table(
        "authorization_codes",
        _tenant_id(),
        _id(),
        _reference("membership_id"),
        _bytes("digest"),
        _text("client_id"),
        _text("client_name"),
        _text("redirect_uri"),
        _text("redirect_host"),
        _text("challenge"),
        _texts("scopes"),
        _text("resource"),
        _time("created_at", now=True),
        _time("expires_at"),
        _time("used_at", nullable=True),
        _reference("grant_id", nullable=True),
        _unique("authorization_codes", "digest"),
        _of_member("authorization_codes"),
        schema="mercato",
    )
    _index("authorization_codes", "tenant_id", "membership_id")
    _index("authorization_codes", "client_id")
    _index("authorization_codes", "expires_at")


def _keys() -> None:
    op.create_table(
        "signing_keys",
        _id(),
        _text("kid"),
        sa.Column("public", postgresql.JSONB, nullable=False),
        _bytes("sealed"),
        _time("created_at", now=True),
        _time("active_from"),
        _unique("signing_keys", "kid"),
        schema="mercato",
    )
    op.create_table(
        "used_assertions",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        _time("expires_at"),
        schema="mercato",
    )
    _index("used_assertions", "expires_at")


def _policies() -> None:
    """What a tenant may see of its own is who was invited and what was allowed to whom; the rest is the system's."""
    protect_tenant_rows(op, "mercato.invitations", app=("select", "insert", "update (accepted_at, revoked_at)"))
    protect_tenant_rows(op, "mercato.client_grants", app=("select", "update (revoked_at, revoked_because)"))
    op.execute("revoke update, delete on mercato.api_keys from mercato_app")
    op.execute("grant update (revoked_at, last_used_at) on mercato.api_keys to mercato_app")
    for table in ("authorization_codes", "refresh_answers"):
        protect_tenant_rows(op, f"mercato.{table}", app=())
    for table in OF_NOBODY:
        op.execute(f"alter table mercato.{table} enable row level security")
        op.execute(f"alter table mercato.{table} force row level security")
    for table in (*OF_NOBODY, *OF_A_TENANT):
        op.execute(f"create policy system on mercato.{table} for all to mercato_system using (true) with check (true)")
        op.execute(f"grant select, insert, update, delete on mercato.{table} to mercato_system")
    op.execute("grant usage, select on all sequences in schema mercato to mercato_system")
