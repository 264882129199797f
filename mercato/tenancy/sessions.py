"""Sessions: a browser in which a person has signed in. The browser holds a random token, the database its hash."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import Field, SQLModel, col, select

from mercato.tenancy.accounts import User
from mercato.tenancy.database import Database
from mercato.tenancy.memberships import Belonging
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.rows import CORE_SCHEMA, identity, reference, timestamp, utc_now
from mercato.tenancy.signing import digest

LONGEST = timedelta(days=30)
LONGEST_IDLE = timedelta(days=7)
_SEEN_EVERY = timedelta(minutes=1)
_MOST_OF_ONE = 50
_LONGEST_DEVICE = 120


class BrowserSession(SQLModel, table=True):
    """One signed-in browser. It expires when it was not seen for long, and at the latest `LONGEST` after its start.

    `chosen_tenant_id` is the tenant whose pages it shows."""

    __tablename__ = "sessions"
    __table_args__ = (
        sa.UniqueConstraint("digest"),
        sa.ForeignKeyConstraint(["user_id"], [f"{CORE_SCHEMA}.users.id"]),
        sa.Index(None, "user_id"),
        sa.Index(None, "expires_at"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    user_id: int = reference()
    chosen_tenant_id: int | None = reference(nullable=True)
    digest: bytes = Field(sa_type=sa.LargeBinary)
    device: str
    created_at: datetime = timestamp(now=True)
    last_seen_at: datetime = timestamp(now=True)
    expires_at: datetime = timestamp()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who a session belongs to."""

    session_id: int
    user_id: int
    email: str
    name: str
    chosen_tenant_id: int | None


def session_principal(person: SignedIn, belonging: Belonging) -> Principal:
    """Return who a browser session speaks for in one of the person's tenants."""
    return Principal(
        tenant_id=belonging.tenant.id,
        user_id=person.user_id,
        role=belonging.role,
        scopes=frozenset({READ, WRITE}),
        categories=None,
        kind="session",
        credential_id=person.session_id,
        client_id="browser",
    )


async def start_session(database: Database, user_id: int, device: str) -> str:
    """Begin a session; return its token, which only the browser keeps. Of one person the oldest go."""
    token = secrets.token_urlsafe(32)
    now = utc_now()
    row = BrowserSession(
        user_id=user_id, digest=digest(token), device=device[:_LONGEST_DEVICE], expires_at=now + LONGEST_IDLE
    )
    async with database.system() as session:
        session.add(row)
        await session.exec(sa.update(User).where(col(User.id) == user_id).values(last_login_at=now))
        await session.flush()
        kept = select(BrowserSession.id).where(BrowserSession.user_id == user_id)
        newest = kept.order_by(col(BrowserSession.id).desc()).limit(_MOST_OF_ONE)
        mine = col(BrowserSession.user_id) == user_id
        await session.exec(sa.delete(BrowserSession).where(mine, col(BrowserSession.id).not_in(newest)))
    return token


async def find_session(database: Database, token: str) -> SignedIn | None:
    """Return whose session this is; None where there is none, or it has ended."""
    now = utc_now()
    async with database.system() as session:
        found = (
            await session.exec(
                select(BrowserSession, User)
                .join(User, col(User.id) == BrowserSession.user_id)
                .where(BrowserSession.digest == digest(token), BrowserSession.expires_at > now)
            )
        ).first()
        if found is None:
            return None
        row, user = found
        if row.last_seen_at < now - _SEEN_EVERY:
            row.last_seen_at, row.expires_at = now, min(row.created_at + LONGEST, now + LONGEST_IDLE)
        return SignedIn(row.id, user.id, user.email, user.name, row.chosen_tenant_id)


async def purge_sessions(database: Database, now: datetime) -> int:
    """Remove sessions that are over; return how many."""
    async with database.system() as session:
        return (await session.exec(sa.delete(BrowserSession).where(col(BrowserSession.expires_at) <= now))).rowcount


async def choose_tenant(database: Database, session_id: int, tenant_id: int) -> None:
    """Let a session show this tenant's pages. Whether its person is a member is for the caller to know."""
    async with database.system() as session:
        mine = col(BrowserSession.id) == session_id
        await session.exec(sa.update(BrowserSession).where(mine).values(chosen_tenant_id=tenant_id))


async def list_sessions(database: Database, user_id: int) -> Sequence[BrowserSession]:
    """Return a person's sessions that are good, the last seen first."""
    now = utc_now()
    good = select(BrowserSession).where(BrowserSession.user_id == user_id, BrowserSession.expires_at > now)
    async with database.system() as session:
        return (await session.exec(good.order_by(col(BrowserSession.last_seen_at).desc()))).all()


async def end_session(database: Database, token: str) -> None:
    """End one session."""
    async with database.system() as session:
        await session.exec(sa.delete(BrowserSession).where(col(BrowserSession.digest) == digest(token)))


async def end_sessions(database: Database, user_id: int, *, but: int | None = None) -> int:
    """End every session of a person, but for one that may stay; return how many ended."""
    ending = sa.delete(BrowserSession).where(col(BrowserSession.user_id) == user_id)
    if but is not None:
        ending = ending.where(col(BrowserSession.id) != but)
    async with database.system() as session:
        return (await session.exec(ending)).rowcount
