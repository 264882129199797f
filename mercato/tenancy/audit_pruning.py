"""Pruning the audit: entries that are kept no longer go, and an anchor stays in their place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from mercato.tenancy.audit import AuditEntry, entry_values
from mercato.tenancy.audit_anchor import leave_anchor
from mercato.tenancy.audit_chain import seal_all_of, take_turn
from mercato.tenancy.audit_head import End
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.audit_walk import Walk, begin_of, entries_of
from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.principal import Principal
from mercato.tenancy.rows import utc_now

ACTION = "audit.prune"
_TIMEOUT = "10min"


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many entries went, and the last number that is gone."""

    entries: int
    number: int


async def prune(
    database: Database, signer: AuditSigner, principal: Principal, before: datetime, *, even_if_broken: bool = False
) -> Pruned:
    """Remove the beginning of a tenant's chain, as far as all of it was written before a time.

    It is verified first: an anchor would hide for good what had been done to it. Raises `InvalidValue` where it does
    not hold, unless told to go on. The pruning is an entry itself.
    """
    if before > utc_now():
        raise InvalidValue("The time to prune before lies in the future.")
    tenant_id = principal.tenant_id
    async with database.system() as session:
        connection = await session.connection()
        await connection.execute(sa.text(f"set local statement_timeout = '{_TIMEOUT}'"))
        await take_turn(connection)
        await seal_all_of(connection, signer, tenant_id)
        breaks, begin = await begin_of(connection, signer, tenant_id)
        last = await _last_before(connection, tenant_id, before)
        if last is None or last <= begin.number:
            return Pruned(0, begin.number)
        walk = Walk(signer, begin, breaks=breaks)
        times = [entry.at async for entry in _along(connection, walk, tenant_id, last)]
        if walk.breaks and not even_if_broken:
            raise InvalidValue(f"The audit does not hold, and nothing was pruned. {walk.breaks[0].reason}")
        await _remove(connection, tenant_id, last)
        await _anchor(connection, signer, tenant_id, begin, walk.end, times)
        effect = {"entries": len(times), "up_to_number": last, "breaks": [one.reason for one in walk.breaks]}
        values = entry_values(principal, ACTION, {"before": before.isoformat()}, effect)
        await connection.execute(sa.insert(AuditEntry).values(tenant_id=tenant_id, **values))
    return Pruned(len(times), last)


async def _last_before(connection: AsyncConnection, tenant_id: int, before: datetime) -> int | None:
    """Return the last number of which every entry, and every one in front of it, is older."""
    number, ours = col(AuditEntry.number), col(AuditEntry.tenant_id) == tenant_id
    kept = sa.select(sa.func.min(number)).where(ours, col(AuditEntry.at) >= before).scalar_subquery()
    older = sa.or_(kept.is_(None), number < kept)
    last: int | None = await connection.scalar(sa.select(sa.func.max(number)).where(ours, older))
    return last


async def _along(connection: AsyncConnection, walk: Walk, tenant_id: int, last: int) -> AsyncIterator[Any]:
    async for entry in entries_of(connection, tenant_id, up_to=last):
        walk.step(entry)
        yield entry


async def _remove(connection: AsyncConnection, tenant_id: int, last: int) -> None:
    gone = sa.delete(AuditEntry).where(col(AuditEntry.tenant_id) == tenant_id, col(AuditEntry.number) <= last)
    await connection.execute(gone)


async def _anchor(
    connection: AsyncConnection, signer: AuditSigner, tenant_id: int, begin: End, end: End, times: Sequence[datetime]
) -> None:
    await leave_anchor(
        connection,
        signer,
        tenant_id=tenant_id,
        first_number=begin.number + 1,
        number=end.number,
        seal=end.seal,
        entries=len(times),
        first_at=min(times),
        last_at=max(times),
        pruned_at=utc_now(),
    )
