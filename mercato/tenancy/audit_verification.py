"""Verifying the audit: whether every entry that was sealed is there, in its place, and says what it said."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.audit_head import End, read_head
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.audit_walk import Break, Walk, begin_of, entries_of
from mercato.tenancy.database import Database

MOST_BREAKS = 20
"""No more are told: what comes after so many needs no telling."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found. `end` is the end of the chain as it should be, to be noted elsewhere.

    `waiting` entries are committed and not sealed yet: nothing can be said of them.
    """

    breaks: tuple[Break, ...]
    entries: int
    erased: int
    waiting: int
    pruned: int
    end: End

    @property
    def holds(self) -> bool:
        """Whether nothing was removed, changed or put in."""
        return not self.breaks


async def verify(database: Database, signer: AuditSigner, tenant_id: int, *, known: End | None = None) -> Verdict:
    """Go through a tenant's chain from its last anchor to its head.

    An end that is `known`, noted elsewhere at some time, shows in addition whether the whole chain was turned back,
    head and all, to an earlier state.
    """
    async with database.system() as session:
        connection = await session.connection()
        await connection.execute(sa.text("set transaction isolation level repeatable read, read only"))
        breaks, begin = await begin_of(connection, signer, tenant_id)
        walk = Walk(signer, begin, known, breaks)
        async for entry in entries_of(connection, tenant_id):
            walk.step(entry)
        walk.finish(await read_head(connection, tenant_id))
        waiting = await _count_waiting(connection, tenant_id)
    return Verdict(tuple(walk.breaks[:MOST_BREAKS]), walk.entries, walk.erased, waiting, begin.number, walk.end)


async def _count_waiting(connection: AsyncConnection, tenant_id: int) -> int:
    waiting = sa.select(sa.func.count()).select_from(AuditEntry)
    ours = waiting.where(col(AuditEntry.tenant_id) == tenant_id, col(AuditEntry.number).is_(None))
    return await connection.scalar(ours) or 0
