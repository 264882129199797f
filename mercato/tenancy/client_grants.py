"""Client grants: what a member has let an OAuth client do in a tenant, for as long as it stands.

A grant is one connection of one client. Its refresh token changes with every use, so a grant holds the digest of the
present one only: each token carries a signature of ours, and one that is ours but not the present one was used twice.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.tenancy.accounts import User
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.memberships import Membership, Role
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp, utc_now
from mercato.tenancy.secrets import KeyRing, Place
from mercato.tenancy.signing import Signer, digest
from mercato.tenancy.tenants import TenantRecord

PREFIX = "mcr_"
IDLE_FOR = timedelta(days=90)
"""How long a grant stands without being refreshed."""
GRACE = timedelta(seconds=120)
"""How long the same refresh gets the same answer: the first may have been lost on its way."""
KEPT_FOR = timedelta(days=90)
"""How long a grant that has ended is still shown in records, and its client known."""
_TOKEN = struct.Struct(">q16s")


class ClientGrant(TenantOwned, table=True):
    """One client that acts for one member. `scopes` are what the member ticked; `resource` is what tokens are for."""

    __tablename__ = "client_grants"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "id"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "membership_id"], [f"{CORE_SCHEMA}.memberships.tenant_id", f"{CORE_SCHEMA}.memberships.id"]
        ),
        sa.Index(None, "tenant_id", "membership_id"),
        sa.Index(None, "client_id"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    membership_id: int = reference()
    client_id: str
    client_name: str
    redirect_host: str
    scopes: list[str] = Field(sa_type=ARRAY(sa.Text))
    resource: str
    created_at: datetime = timestamp(now=True)
    last_used_at: datetime | None = timestamp(nullable=True)
    refresh_digest: bytes = Field(sa_type=sa.LargeBinary)
    expires_at: datetime = timestamp()
    revoked_at: datetime | None = timestamp(nullable=True)
    revoked_because: str | None = None


class RefreshAnswer(TenantOwned, table=True):
    """The sealed answer to a refresh, by the token that was used: for the client whose answer was lost."""

    __tablename__ = "refresh_answers"
    __table_args__ = (
        sa.UniqueConstraint("digest"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "grant_id"],
            [f"{CORE_SCHEMA}.client_grants.tenant_id", f"{CORE_SCHEMA}.client_grants.id"],
            ondelete="CASCADE",
        ),
        sa.Index(None, "tenant_id", "grant_id"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    grant_id: int = reference()
    digest: bytes = Field(sa_type=sa.LargeBinary)
    sealed: bytes = Field(sa_type=sa.LargeBinary)
    rotated_at: datetime = timestamp(now=True)


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant that stands, with whom it speaks for."""

    id: int
    tenant_id: int
    user_id: int
    client_id: str
    scopes: tuple[str, ...]
    resource: str


class Refused(Exception):
    """A code or a refresh token is not good; the text says why, for the client's developer.

    `ended` is the tenant of a grant that was ended for it, because what was shown had been used before.
    """

    def __init__(self, reason: str, *, ended: int | None = None) -> None:
        super().__init__(reason)
        self.ended = ended


class WrongResource(Refused):
    """A token was asked for something else than what the person allowed."""


Answer = Callable[[Granted, str], bytes]
"""Makes the answer to a refresh from the grant and the next refresh token, at once: the grant is locked."""


class RefreshTokens:
    """Makes refresh tokens, and exchanges them."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._signer = Signer(ring, "refresh token")

    def new(self, grant_id: int) -> str:
        """Return a token for a grant; the grant must be given its digest."""
        return PREFIX + self._signer.sign(_TOKEN.pack(grant_id, secrets.token_bytes(16)))

    def grant_id_of(self, token: str) -> int | None:
        """Return the grant that a token was made for; None where it is none of ours."""
        payload = self._signer.verify(token.removeprefix(PREFIX)) if token.startswith(PREFIX) else None
        if payload is None or len(payload) != _TOKEN.size:
            return None
        grant_id: int = _TOKEN.unpack(payload)[0]
        return grant_id

    async def rotate(self, token: str, client_id: str, answer: Answer) -> bytes:
        """Exchange a token, once: the next one is in the answer. Raises `Refused`.

        The same token within `GRACE` gets the same answer. Later it ends the grant: somebody else has it too.
        """
        grant_id = self.grant_id_of(token)
        if grant_id is None:
            raise Refused("The refresh token is not one of ours.")
        async with self._database.system() as session:
            granted, row = await _lock(session, grant_id)
            if granted is None or row is None or row.client_id != client_id:
                raise Refused("The refresh token is not good any more: access was ended, or it belongs to another.")
            if row.refresh_digest == digest(token):
                return await self._exchange(session, row, granted, token, answer)
            kept = await _recent_answer(session, token)
            if kept is not None:
                return self._opened(kept)
            row.revoked_at, row.revoked_because = utc_now(), "a refresh token was used twice"
        raise Refused("The refresh token has been used before, so access was ended.", ended=granted.tenant_id)

    def _opened(self, kept: RefreshAnswer) -> bytes:
        try:
            return self._ring.open(kept.sealed, _place(kept))
        except InvalidValue:
            raise Refused("The answer was sealed with a key that is gone: connect anew.") from None

    async def _exchange(
        self, session: AsyncSession, row: ClientGrant, granted: Granted, token: str, answer: Answer
    ) -> bytes:
        following = self.new(row.id)
        body = answer(granted, following)
        now = utc_now()
        kept = RefreshAnswer(tenant_id=row.tenant_id, grant_id=row.id, digest=digest(token), sealed=b"")
        session.add(kept)
        await session.flush()  # the seal is bound to the row, whose id the database gives
        kept.sealed = self._ring.seal(body, _place(kept))
        row.refresh_digest, row.expires_at, row.last_used_at = digest(following), now + IDLE_FOR, now
        old = sa.delete(RefreshAnswer).where(
            col(RefreshAnswer.tenant_id) == row.tenant_id,
            col(RefreshAnswer.grant_id) == row.id,
            col(RefreshAnswer.rotated_at) < now - GRACE,
        )
        await session.exec(old)
        return body


async def authenticate_grant(
    database: Database, grant_id: int, scopes: frozenset[str], expires_at: datetime | None
) -> Principal | None:
    """Return who a token of this grant speaks for, with the scopes that both have; None where it does not stand."""
    async with database.system() as session:
        found = (await session.exec(_standing().where(col(ClientGrant.id) == grant_id))).first()
        if found is None:
            return None
        row, membership = found
        row.last_used_at = utc_now()
    held = scopes & frozenset(row.scopes)
    return Principal(
        tenant_id=row.tenant_id,
        user_id=membership.user_id,
        role=Role(membership.role),
        scopes=held,
        categories=held - {READ, WRITE},
        kind="token",
        client_id=row.client_id,
        grant_id=row.id,
        expires_at=expires_at,
    )


@dataclass(frozen=True, slots=True)
class ShownGrant:
    """A grant as a list shows it, with the member it speaks for."""

    id: int
    user_id: int
    who: str
    client_id: str
    client_name: str
    redirect_host: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None


async def list_grants(db: TenantDatabase, *, user_id: int | None = None) -> Sequence[ShownGrant]:
    """Return the tenant's grants that stand, the newest first; of one member, or of all."""
    columns = (User.id, User.name, *(getattr(ClientGrant, name) for name in _SHOWN))
    statement = (
        sa.select(col(ClientGrant.id), *columns)
        .select_from(ClientGrant)
        .join(Membership, _same_member())
        .join(User, col(User.id) == Membership.user_id)
        .where(col(ClientGrant.revoked_at).is_(None), col(ClientGrant.expires_at) > utc_now())
        .where(col(Membership.removed_at).is_(None))
        .order_by(col(ClientGrant.id).desc())
    )
    if user_id is not None:
        statement = statement.where(col(User.id) == user_id)
    return [ShownGrant(*row) for row in await db.rows(statement)]


_SHOWN = ("client_id", "client_name", "redirect_host", "scopes", "created_at", "last_used_at")


async def revoke_grant(db: TenantDatabase, grant_id: int, *, user_id: int | None = None) -> ClientGrant:
    """End a grant; a second time does nothing. With `user_id`, only that member's. Raises `NotFound`."""
    statement = select(ClientGrant).where(ClientGrant.id == grant_id)
    if user_id is not None:
        statement = statement.join(Membership, _same_member()).where(Membership.user_id == user_id)
    row = (await db.session.exec(statement)).first()
    if row is None:
        raise NotFound(f"There is no connected client {grant_id}.")
    if row.revoked_at is None:
        row.revoked_at, row.revoked_because = utc_now(), "a person ended it"
    return row


async def end_grant(database: Database, grant_id: int, client_id: str, because: str) -> int | None:
    """End a client's own grant; return its tenant, or None where there is nothing to end."""
    ending = sa.update(ClientGrant).where(
        col(ClientGrant.id) == grant_id,
        col(ClientGrant.client_id) == client_id,
        col(ClientGrant.revoked_at).is_(None),
    )
    values = ending.values(revoked_at=utc_now(), revoked_because=because).returning(col(ClientGrant.tenant_id))
    async with database.system() as session:
        return (await session.exec(values)).scalar()


async def _lock(session: AsyncSession, grant_id: int) -> tuple[Granted | None, ClientGrant | None]:
    locked = _standing().where(col(ClientGrant.id) == grant_id).with_for_update(of=ClientGrant)
    found = (await session.exec(locked)).first()
    if found is None:
        return None, None
    row, membership = found
    return granted_of(row, membership.user_id), row


def granted_of(row: ClientGrant, user_id: int) -> Granted:
    """Return what a token says of a grant."""
    return Granted(row.id, row.tenant_id, user_id, row.client_id, tuple(row.scopes), row.resource)


async def _recent_answer(session: AsyncSession, token: str) -> RefreshAnswer | None:
    recent = select(RefreshAnswer).where(
        RefreshAnswer.digest == digest(token), RefreshAnswer.rotated_at >= utc_now() - GRACE
    )
    return (await session.exec(recent)).first()


def _standing() -> Any:
    """Return the grants that stand: not ended, not too long idle, of a member of a tenant that is there."""
    return (
        select(ClientGrant, Membership)
        .join(Membership, _same_member())
        .join(TenantRecord, col(TenantRecord.id) == ClientGrant.tenant_id)
        .where(col(ClientGrant.revoked_at).is_(None), ClientGrant.expires_at > utc_now())
        .where(col(Membership.removed_at).is_(None), col(TenantRecord.removed_at).is_(None))
    )


def _same_member() -> sa.ColumnElement[bool]:
    return sa.and_(
        col(Membership.tenant_id) == col(ClientGrant.tenant_id), col(Membership.id) == col(ClientGrant.membership_id)
    )


def _place(answer: RefreshAnswer) -> Place:
    return (answer.tenant_id, "mercato.refresh_answers", "sealed", answer.id)
