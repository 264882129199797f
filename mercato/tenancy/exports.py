"""Exports: files that a tool has made for one person, in parts that a client reads as resources, for some days."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col, select

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp, utc_now
from mercato.tenancy.system_pool import SystemPool

KEPT = timedelta(days=7)
MOST_CHARACTERS = 500_000_000
"""Of all exports of a tenant that are kept."""


class ExportPart(TenantOwned, table=True):
    """A part of an export. Its `export_id` is 128 random bits, and it is shown to whoever had it made, nobody else."""

    __tablename__ = "export_parts"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "export_id", "part"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.Index(None, "expires_at"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    export_id: UUID
    part: int
    name: str
    user_id: int | None = reference(nullable=True)
    content: str
    characters: int
    expires_at: datetime = timestamp()


@dataclass(frozen=True, slots=True)
class Export:
    """An export that is there. Parts count from 1."""

    id: str
    parts: int
    characters: int
    expires_at: datetime


async def store_export(db: TenantDatabase, name: str, user_id: int | None, parts: AsyncIterable[str]) -> Export:
    """Store an export as it is made, in the transaction of `db`.

    Raises `InvalidValue` where the tenant would keep more than it may.
    """
    export_id, expires_at = UUID(bytes=secrets.token_bytes(16)), utc_now() + KEPT
    [(kept,)] = await db.rows(_KEPT)
    count = characters = 0
    async for content in parts:
        count, characters = count + 1, characters + len(content)
        if kept + characters > MOST_CHARACTERS:
            raise InvalidValue(f"The exports that are kept may have {MOST_CHARACTERS:,} characters together.")
        row = ExportPart(
            export_id=export_id,
            part=count,
            name=name,
            user_id=user_id,
            content=content,
            characters=len(content),
            expires_at=expires_at,
        )
        db.session.add(row)
        await db.session.flush()
        db.session.expunge(row)  # many of them are large
    return Export(export_id.hex, count, characters, expires_at)


_KEPT = sa.select(sa.func.coalesce(sa.func.sum(col(ExportPart.characters)), 0))


async def read_export_part(db: TenantDatabase, name: str, user_id: int | None, export_id: str, part: int) -> str:
    """Return a part of an export of this person. Raises `NotFound`, for another's and for one that is past its time."""
    try:
        wanted = UUID(hex=export_id)
    except ValueError:
        raise NotFound("There is no such export.") from None
    mine = select(ExportPart.content).where(
        ExportPart.export_id == wanted,
        ExportPart.part == part,
        ExportPart.name == name,
        col(ExportPart.user_id).is_not_distinct_from(user_id),
        ExportPart.expires_at > utc_now(),
    )
    found = await db.rows(mine)
    if not found:
        raise NotFound("There is no such export, or it is past its time.")
    content: str = found[0][0]
    return content


async def purge_exports(pool: SystemPool, now: datetime) -> int:
    """Remove exports that are past their time; return how many parts."""
    return len(await pool.fetch("delete from mercato.export_parts where expires_at <= $1 returning id", now))
