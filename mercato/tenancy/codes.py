"""Authorization codes: what a person has just allowed, waiting for the client to fetch it. Good once, ten minutes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.tenancy.client_grants import (
    IDLE_FOR,
    KEPT_FOR,
    ClientGrant,
    Granted,
    RefreshTokens,
    Refused,
    WrongResource,
    granted_of,
)
from mercato.tenancy.database import Database
from mercato.tenancy.memberships import Membership
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp, utc_now
from mercato.tenancy.signing import digest
from mercato.tenancy.tenants import TenantRecord

GOOD_FOR = timedelta(minutes=10)
_REMEMBERED_FOR = timedelta(days=1)
"""So long a code that is shown again still ends what it gave."""


class AuthorizationCode(TenantOwned, table=True):
    """A code, by its digest, with everything that its redemption must repeat; `grant_id` is what it gave."""

    __tablename__ = "authorization_codes"
    __table_args__ = (
        sa.UniqueConstraint("digest"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "membership_id"], [f"{CORE_SCHEMA}.memberships.tenant_id", f"{CORE_SCHEMA}.memberships.id"]
        ),
        sa.Index(None, "tenant_id", "membership_id"),
        sa.Index(None, "client_id"),
        sa.Index(None, "expires_at"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    membership_id: int = reference()
    digest: bytes = Field(default=b"", sa_type=sa.LargeBinary)
    client_id: str
    client_name: str
    redirect_uri: str
    redirect_host: str
    challenge: str
    scopes: list[str] = Field(sa_type=ARRAY(sa.Text))
    resource: str
    created_at: datetime = timestamp(now=True)
    expires_at: datetime = timestamp()
    used_at: datetime | None = timestamp(nullable=True)
    grant_id: int | None = reference(nullable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """What a client shows to redeem a code. The redirect may be left out: OAuth 2.1 asks for it no more.

    `is_for` says whether the resource that the code was given for is the one that the client means now.
    """

    code: str
    client_id: str
    verifier: str
    redirect_uri: str | None
    is_for: Callable[[str], bool]


async def issue_code(database: Database, code: AuthorizationCode) -> str:
    """Store a code; return its text."""
    text = secrets.token_urlsafe(32)
    code.digest, code.expires_at = digest(text), utc_now() + GOOD_FOR
    async with database.system() as session:
        session.add(code)
    return text


async def redeem_code(database: Database, tokens: RefreshTokens, shown: Redemption) -> tuple[Granted, str]:
    """Exchange a code for a grant, once; return the grant and its first refresh token. Raises `Refused`.

    A code that is shown again ends what it gave: one of the two that had it should not.
    """
    async with database.system() as session:
        code = await _lock(session, shown.code)
        if code is None or code.client_id != shown.client_id:
            raise Refused("The code is unknown, or was given to another client.")
        if code.used_at is None:
            return await _redeem(session, tokens, code, shown)
        await _end(session, code)
    raise Refused("The code has been used before, so what it gave was ended.", ended=code.tenant_id)


async def _lock(session: AsyncSession, text: str) -> AuthorizationCode | None:
    statement = select(AuthorizationCode).where(AuthorizationCode.digest == digest(text))
    return (await session.exec(statement.with_for_update())).first()


async def _redeem(
    session: AsyncSession, tokens: RefreshTokens, code: AuthorizationCode, shown: Redemption
) -> tuple[Granted, str]:
    now = utc_now()
    if code.expires_at <= now:
        raise Refused("The code has expired: it is good for ten minutes.")
    if shown.redirect_uri not in {None, code.redirect_uri}:
        raise Refused("The redirect_uri is not the one that the code was asked for with.")
    if not hmac.compare_digest(code.challenge, challenge_of(shown.verifier)):
        raise Refused("The code_verifier does not fit the code_challenge.")
    if not shown.is_for(code.resource):
        raise WrongResource("The resource is not the one that the code was asked for with.")
    user_id = await _member(session, code)
    if user_id is None:
        raise Refused("The person who allowed this is no member any more.")
    grant = ClientGrant(
        tenant_id=code.tenant_id,
        membership_id=code.membership_id,
        client_id=code.client_id,
        client_name=code.client_name,
        redirect_host=code.redirect_host,
        scopes=list(code.scopes),
        resource=code.resource,
        refresh_digest=b"",
        expires_at=now + IDLE_FOR,
    )
    session.add(grant)
    await session.flush()
    refresh_token = tokens.new(grant.id)
    grant.refresh_digest = digest(refresh_token)
    code.used_at, code.grant_id = now, grant.id
    return granted_of(grant, user_id), refresh_token


async def _member(session: AsyncSession, code: AuthorizationCode) -> int | None:
    statement = (
        select(Membership.user_id)
        .join(TenantRecord, col(TenantRecord.id) == Membership.tenant_id)
        .where(Membership.id == code.membership_id, Membership.tenant_id == code.tenant_id)
        .where(col(Membership.removed_at).is_(None), col(TenantRecord.removed_at).is_(None))
    )
    return (await session.exec(statement)).first()


async def _end(session: AsyncSession, code: AuthorizationCode) -> None:
    grant = (await session.exec(select(ClientGrant).where(ClientGrant.id == code.grant_id))).first()
    if grant is not None and grant.revoked_at is None:
        grant.revoked_at, grant.revoked_because = utc_now(), "its code was used twice"


@dataclass(frozen=True, slots=True)
class Purged:
    """How many codes and grants went."""

    codes: int
    grants: int


async def purge_codes(database: Database, now: datetime) -> Purged:
    """Remove codes and grants that are long over; return how many."""
    old_codes = sa.delete(AuthorizationCode).where(col(AuthorizationCode.expires_at) < now - _REMEMBERED_FOR)
    ended = sa.or_(col(ClientGrant.revoked_at) < now - KEPT_FOR, col(ClientGrant.expires_at) < now - KEPT_FOR)
    async with database.system() as session:
        codes = (await session.exec(old_codes)).rowcount
        return Purged(codes, (await session.exec(sa.delete(ClientGrant).where(ended))).rowcount)


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
