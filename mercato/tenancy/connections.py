"""Connections: the outside services that a tenant has connected, with sealed credentials."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, col, select

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.errors import NotFound
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp, utc_now
from mercato.tenancy.secrets import KeyRing, Place


class Connection(TenantOwned, table=True):
    """One account at one outside service: a shop, a calendar; of the tenant, or of one of its users.

    `settings` is plain and may be shown; `sealed` holds the credentials and is readable only with the key ring.
    """

    __tablename__ = "connections"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "integration", "account", "user_id", postgresql_nulls_not_distinct=True),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"], [f"{CORE_SCHEMA}.memberships.tenant_id", f"{CORE_SCHEMA}.memberships.user_id"]
        ),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    integration: str
    account: str
    user_id: int | None = reference(nullable=True)
    settings: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSONB, sa_column_kwargs={"server_default": sa.text("'{}'::jsonb")}
    )
    sealed: bytes = Field(sa_type=sa.LargeBinary)
    created_at: datetime = timestamp(now=True)
    updated_at: datetime = timestamp(now=True)


async def open_connection(
    db: TenantDatabase, ring: KeyRing, integration: str, account: str, credentials: dict[str, Any]
) -> Connection:
    """Store a connection of the tenant itself, in the place of an older one of the same account."""
    found = (
        await db.session.exec(
            select(Connection)
            .where(Connection.integration == integration, Connection.account == account)
            .where(col(Connection.user_id).is_(None))
        )
    ).first()
    connection = found or Connection(integration=integration, account=account, sealed=b"")
    db.session.add(connection)
    await db.session.flush()  # the seal is bound to the row, whose id the database gives
    connection.sealed = ring.seal(orjson.dumps(credentials), _place(connection))
    connection.updated_at = utc_now()
    return connection


async def find_connection(db: TenantDatabase, integration: str, account: str | None = None) -> Any:
    """Return the row of a connection; of the oldest where no account is named. Raises `NotFound`."""
    statement = select(Connection).where(Connection.integration == integration)
    if account is not None:
        statement = statement.where(Connection.account == account)
    rows = await db.rows(statement.order_by(col(Connection.id)).limit(1))
    if not rows:
        raise NotFound(f"{integration} is not connected.")
    return rows[0]


def read_credentials(connection: Any, ring: KeyRing) -> dict[str, Any]:
    """Return the credentials of a connection's row. Raises `InvalidValue` where the key for them is gone."""
    credentials: dict[str, Any] = orjson.loads(ring.open(connection.sealed, _place(connection)))
    return credentials


def _place(connection: Any) -> Place:
    return (connection.tenant_id, "mercato.connections", "sealed", connection.id)
