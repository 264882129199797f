"""OAuth clients: the programs that may ask a person for access. They belong to no tenant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel, col, select

from mercato.tenancy.client_grants import ClientGrant
from mercato.tenancy.codes import AuthorizationCode
from mercato.tenancy.database import Database
from mercato.tenancy.errors import AlreadyExists, NotFound
from mercato.tenancy.rows import CORE_SCHEMA, identity, timestamp, utc_now

UNUSED_FOR = timedelta(days=1)
"""How long a client that nobody ever allowed anything is kept: the time a person may take to sign in, and more."""
MOST_UNUSED = 10_000
"""How many of those are kept at most. Beyond that the oldest go, so that a flood cannot fill the table, and who
connects meanwhile still has some minutes to sign in."""


REAPED_EVERY = 20
"""The clean-up looks through all of them, so only one addition in so many does it."""


class ClientKind(StrEnum):
    """How the server came to know a client."""

    STATIC = "static"
    """Made by the operator, with `mercato client create`."""
    REGISTERED = "registered"
    """Registered itself (RFC 7591)."""
    DOCUMENT = "document"
    """Its id is the address of a document that describes it; the row is what was read there last."""


class OAuthClient(SQLModel, table=True):
    """A client. `secret_digest` is there for those that authenticate with a secret, `jwks` or `jwks_uri` with a key.

    `fresh_until` and `etag` are of a document: until then it need not be asked for again.
    """

    __tablename__ = "oauth_clients"
    __table_args__ = (
        sa.UniqueConstraint("client_id"),
        sa.CheckConstraint("kind in ('static', 'registered', 'document')", name="kind"),
        sa.Index(None, "kind", "created_at"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    client_id: str
    kind: str
    name: str
    redirect_uris: list[str] = Field(sa_type=ARRAY(sa.Text))
    auth_method: str
    secret_digest: bytes | None = Field(default=None, sa_type=sa.LargeBinary)
    jwks: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    jwks_uri: str | None = None
    home: str | None = None
    introspects: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    created_at: datetime = timestamp(now=True)
    last_used_at: datetime | None = timestamp(nullable=True)
    fresh_until: datetime | None = timestamp(nullable=True)
    etag: str | None = None


async def find_client(database: Database, client_id: str) -> OAuthClient | None:
    """Return the client of this id."""
    async with database.system() as session:
        return (await session.exec(select(OAuthClient).where(OAuthClient.client_id == client_id))).first()


async def find_clients(database: Database, client_ids: Iterable[str]) -> dict[str, OAuthClient]:
    """Return the clients of these ids, as far as they are known."""
    async with database.system() as session:
        found = await session.exec(select(OAuthClient).where(col(OAuthClient.client_id).in_(set(client_ids))))
        return {client.client_id: client for client in found}


async def add_client(database: Database, client: OAuthClient) -> OAuthClient:
    """Store a new client, and let those go that nobody uses. Raises `AlreadyExists`."""
    async with database.system() as session:
        present = select(OAuthClient.id).where(OAuthClient.client_id == client.client_id)
        if (await session.exec(present)).first() is not None:
            raise AlreadyExists(f"There is a client {client.client_id!r} already.")
        session.add(client)
        await session.flush()
        if client.id % REAPED_EVERY == 0:
            await session.exec(_unused())
    return client


async def save_document(database: Database, client: OAuthClient) -> OAuthClient:
    """Store what was read of a client's document, in the place of what was read before."""
    values = client.model_dump(exclude={"id", "created_at", "last_used_at", "introspects", "secret_digest"})
    if values["jwks"] is None:
        values["jwks"] = sa.null()
    changed = {name: value for name, value in values.items() if name not in {"client_id", "kind"}}
    insert = postgresql.insert(OAuthClient).values(**values)
    saved = insert.on_conflict_do_update(
        index_elements=["client_id"],
        set_=changed,
        where=sa.literal_column("oauth_clients.kind") == ClientKind.DOCUMENT,
    )
    async with database.system() as session:
        await session.exec(saved)
        row = (await session.exec(select(OAuthClient).where(OAuthClient.client_id == client.client_id))).one()
        if row.id % REAPED_EVERY == 0:
            await session.exec(_unused(but=row.id))
        return row


async def touch_client(database: Database, client: OAuthClient) -> None:
    """Note that a person looks at what a client asks for: it is in use, and stays."""
    async with database.system() as session:
        this = col(OAuthClient.id) == client.id
        await session.exec(sa.update(OAuthClient).where(this).values(last_used_at=utc_now()))


async def list_clients(database: Database) -> Sequence[OAuthClient]:
    """Return every client, the newest first."""
    async with database.system() as session:
        return (await session.exec(select(OAuthClient).order_by(col(OAuthClient.id).desc()))).all()


async def remove_client(database: Database, client_id: str) -> list[int]:
    """Remove a client and end what it was allowed; return the tenants concerned. Raises `NotFound`."""
    of_it = col(ClientGrant.client_id) == client_id
    ending = sa.update(ClientGrant).where(of_it, col(ClientGrant.revoked_at).is_(None))
    ended = ending.values(revoked_at=utc_now(), revoked_because="client removed")
    async with database.system() as session:
        removed = sa.delete(OAuthClient).where(col(OAuthClient.client_id) == client_id)
        if (await session.exec(removed)).rowcount == 0:
            raise NotFound(f"There is no client {client_id!r}. `mercato client list` shows those there are.")
        return sorted(set((await session.exec(ended.returning(col(ClientGrant.tenant_id)))).scalars()))


def _unused(*, but: int = 0) -> sa.Delete:
    """Return the statement that removes clients which nobody allowed anything: those too old, and those too many."""
    granted = sa.exists().where(col(ClientGrant.client_id) == OAuthClient.client_id)
    awaited = sa.exists().where(
        col(AuthorizationCode.client_id) == OAuthClient.client_id, col(AuthorizationCode.expires_at) > utc_now()
    )
    unused = sa.and_(
        col(OAuthClient.kind) != ClientKind.STATIC, col(OAuthClient.id) != but, sa.not_(granted), sa.not_(awaited)
    )
    seen_at = sa.func.coalesce(col(OAuthClient.last_used_at), col(OAuthClient.created_at))
    too_many = sa.select(col(OAuthClient.id)).where(unused).order_by(seen_at.desc()).offset(MOST_UNUSED)
    too_old = sa.and_(unused, seen_at < utc_now() - UNUSED_FOR)
    removed = sa.delete(OAuthClient).where(sa.or_(too_old, col(OAuthClient.id).in_(too_many)))
    return removed.execution_options(synchronize_session=False)
