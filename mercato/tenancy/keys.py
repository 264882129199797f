"""API keys: `mck_…`, shown once, stored as a hash; each belongs to a membership and has its role, cut by scopes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, col, select

from mercato.tenancy.accounts import User
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.memberships import Membership, Role
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp, utc_now
from mercato.tenancy.tenants import TenantRecord

PREFIX = "mck_"
EVERY_SCOPE = "*"
MOST_OF_A_MEMBER = 100
_MOST_LISTED = 500
_SHOWN_CHARACTERS = 10


class ApiKey(TenantOwned, table=True):
    """A key. Only `digest`, its SHA-256, can recognise it; `shown` is the beginning, to tell keys apart.

    A fast hash is enough: the key itself is 256 random bits, so there is nothing to guess.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        sa.UniqueConstraint("digest"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "membership_id"], [f"{CORE_SCHEMA}.memberships.tenant_id", f"{CORE_SCHEMA}.memberships.id"]
        ),
        sa.Index(None, "tenant_id", "membership_id"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    membership_id: int = reference()
    name: str
    shown: str
    digest: bytes = Field(sa_type=sa.LargeBinary)
    scopes: list[str] = Field(sa_type=ARRAY(sa.Text))
    created_at: datetime = timestamp(now=True)
    expires_at: datetime | None = timestamp(nullable=True)
    last_used_at: datetime | None = timestamp(nullable=True)
    revoked_at: datetime | None = timestamp(nullable=True)


def check_scopes(scopes: Iterable[str], categories: Iterable[str]) -> list[str]:
    """Return scopes that exist, sorted. Raises `InvalidValue`, which names them all."""
    known = {EVERY_SCOPE, READ, WRITE, *categories}
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in known]
    if unknown:
        raise InvalidValue(f"There is no scope {unknown[0]!r}. Scopes: {', '.join(sorted(known))}.")
    if not {EVERY_SCOPE, READ, WRITE} & set(wanted):
        raise InvalidValue(f"A key needs {READ} or {WRITE}: a category alone lets nothing through.")
    return wanted


async def create_key(
    db: TenantDatabase, membership: Membership, name: str, scopes: Sequence[str], expires_at: datetime | None
) -> tuple[ApiKey, str]:
    """Create a key; return its row and the key itself, which cannot be had again. Raises `InvalidValue`."""
    key = PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(
        membership_id=membership.id,
        name=name,
        shown=key[:_SHOWN_CHARACTERS],
        digest=_digest(key),
        scopes=list(scopes),
        expires_at=expires_at,
    )
    live = select(sa.func.count()).where(ApiKey.membership_id == membership.id, col(ApiKey.revoked_at).is_(None))
    if (await db.session.exec(live)).one() >= MOST_OF_A_MEMBER:
        raise InvalidValue(f"A member may have {MOST_OF_A_MEMBER} keys: revoke one first.")
    db.session.add(row)
    await db.session.flush()
    return row, key


async def list_keys(db: TenantDatabase) -> Sequence[ApiKey]:
    """Return the tenant's keys, newest first, revoked ones included."""
    return (await db.session.exec(select(ApiKey).order_by(col(ApiKey.id).desc()))).all()


@dataclass(frozen=True, slots=True)
class KeyOfMember:
    """A key as a list shows it, with the member it belongs to."""

    id: int
    membership_id: int
    user_id: int
    who: str
    name: str
    shown: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


async def list_keys_of(db: TenantDatabase, *, membership_id: int | None = None) -> Sequence[KeyOfMember]:
    """Return keys with their members, those that are good first, the newest first; of one member, or of all."""
    key = (getattr(ApiKey, name) for name in _SHOWN)
    statement = (
        sa.select(col(ApiKey.id), col(ApiKey.membership_id), col(User.id), col(User.name), *key)
        .select_from(ApiKey)
        .join(Membership, col(Membership.id) == ApiKey.membership_id)
        .join(User, col(User.id) == Membership.user_id)
        .order_by(col(ApiKey.revoked_at).desc().nulls_first(), col(ApiKey.id).desc())
        .limit(_MOST_LISTED)
    )
    if membership_id is not None:
        statement = statement.where(col(ApiKey.membership_id) == membership_id)
    return [KeyOfMember(*row) for row in await db.rows(statement)]


_SHOWN = ("name", "shown", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")


async def revoke_key(db: TenantDatabase, key_id: int, *, membership_id: int | None = None) -> ApiKey:
    """Revoke a key; a second time does nothing. With `membership_id`, only that member's. Raises `NotFound`."""
    statement = select(ApiKey).where(ApiKey.id == key_id)
    if membership_id is not None:
        statement = statement.where(ApiKey.membership_id == membership_id)
    row = (await db.session.exec(statement)).first()
    if row is None:
        raise NotFound(f"There is no key {key_id}. `mercato key list` shows those there are.")
    row.revoked_at = row.revoked_at or utc_now()
    return row


async def authenticate_key(database: Database, key: str) -> Principal | None:
    """Return who this key speaks for; None where it is unknown, revoked, expired, or its membership has ended."""
    if not key.startswith(PREFIX):
        return None
    return await _standing(database, col(ApiKey.digest) == _digest(key))


async def find_key(database: Database, key_id: int) -> Principal | None:
    """Return who the key of this id speaks for, as `authenticate_key` does for the key itself."""
    return await _standing(database, col(ApiKey.id) == key_id)


async def _standing(database: Database, which: sa.ColumnElement[bool]) -> Principal | None:
    async with database.system() as session:
        found = (
            await session.exec(
                select(ApiKey, Membership)
                .join(Membership, (col(Membership.id) == ApiKey.membership_id))
                .join(TenantRecord, (col(TenantRecord.id) == ApiKey.tenant_id))
                .where(which, col(ApiKey.revoked_at).is_(None))
                .where(col(Membership.removed_at).is_(None), col(TenantRecord.removed_at).is_(None))
            )
        ).first()
        if found is None or (found[0].expires_at is not None and found[0].expires_at <= utc_now()):
            return None
        row, membership = found
        row.last_used_at = utc_now()
        return principal_of(row, membership)


def principal_of(row: ApiKey, membership: Membership) -> Principal:
    """Return the principal of a key: the member's role, cut by the key's scopes."""
    scopes = frozenset(row.scopes)
    categories = scopes - {EVERY_SCOPE, READ, WRITE}
    if EVERY_SCOPE in scopes:
        scopes, categories = scopes | {READ, WRITE}, frozenset()
    return Principal(
        tenant_id=row.tenant_id,
        user_id=membership.user_id,
        role=Role(membership.role),
        scopes=scopes,
        categories=categories or None,
        kind="key",
        credential_id=row.id,
        client_id=f"key:{row.id}",
        expires_at=row.expires_at,
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
