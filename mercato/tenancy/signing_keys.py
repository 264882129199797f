"""Signing keys: the pairs that sign access tokens; the private half is sealed, the public half is for everybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel, col, select

from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.rows import CORE_SCHEMA, identity, timestamp, utc_now
from mercato.tenancy.secrets import KeyRing, Place

SIGNS_FOR = timedelta(days=90)
PUBLISHED_BEFORE = timedelta(days=1)
"""So long before its first signature a new key can be fetched already."""
PUBLISHED_AFTER = timedelta(days=1)
"""So long after its last one a key stays known; tokens live for an hour."""
_LOCK = 0x6D6B6579  # "mkey"


class SigningKey(SQLModel, table=True):
    """One pair. The newest one that is active signs; each of them verifies."""

    __tablename__ = "signing_keys"
    __table_args__ = (sa.UniqueConstraint("kid"), {"schema": CORE_SCHEMA})

    id: int = identity()
    kid: str
    public: dict[str, Any] = Field(sa_type=JSONB)
    sealed: bytes = Field(sa_type=sa.LargeBinary)
    created_at: datetime = timestamp(now=True)
    active_from: datetime = timestamp()


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A pair as it was stored. `private` is None where the key that sealed it is gone: it verifies, and signs not."""

    kid: str
    public: dict[str, Any]
    private: dict[str, Any] | None
    active_from: datetime


async def load_signing_keys(
    database: Database, ring: KeyRing, make: Callable[[], Awaitable[tuple[str, dict[str, Any], dict[str, Any]]]]
) -> Sequence[StoredKey]:
    """Return the keys, the newest first. One that is due is made with `make` (kid, public, private), by one process.

    Keys that nothing can have been signed with for long are removed.
    """
    now = utc_now()
    async with database.system() as session:
        found = await _read(session, ring)
        if _due(found, now):
            await session.exec(select(sa.func.pg_advisory_xact_lock(_LOCK)))
            found = await _read(session, ring)
            if (active_from := _due(found, now)) is not None:
                kid, public, private = await make()
                row = SigningKey(kid=kid, public=public, sealed=b"", active_from=active_from)
                session.add(row)
                await session.flush()
                row.sealed = ring.seal(orjson.dumps(private), _place(row))
                found = [StoredKey(kid, public, private, active_from), *found]
            over = sa.delete(SigningKey).where(col(SigningKey.active_from) < now - 2 * SIGNS_FOR - PUBLISHED_AFTER)
            await session.exec(over)
    return found


def _due(keys: Sequence[StoredKey], now: datetime) -> datetime | None:
    """Return from when on a new key should sign; None where none is needed yet."""
    usable = [key for key in keys if key.private is not None]
    if not usable:
        return now
    ends = usable[0].active_from + SIGNS_FOR
    return max(ends, now + PUBLISHED_BEFORE) if now >= ends - PUBLISHED_BEFORE else None


async def _read(session: Any, ring: KeyRing) -> list[StoredKey]:
    rows = (await session.exec(select(SigningKey).order_by(col(SigningKey.active_from).desc()))).all()
    return [StoredKey(row.kid, row.public, _private(row, ring), row.active_from) for row in rows]


def _private(row: SigningKey, ring: KeyRing) -> dict[str, Any] | None:
    try:
        private: dict[str, Any] = orjson.loads(ring.open(row.sealed, _place(row)))
    except InvalidValue:
        return None
    return private


def _place(row: SigningKey) -> Place:
    return (0, "mercato.signing_keys", "sealed", row.id)
