"""Erasing what entries of the audit say, because somebody asks for it, without breaking the chain."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from mercato.tenancy.audit import AuditEntry, entry_values
from mercato.tenancy.audit_chain import seal_all_of, take_turn
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.principal import Principal
from mercato.tenancy.rows import utc_now

ACTION = "audit.erase"
_PURPOSE = "erasure of an entry"


async def erase(
    database: Database,
    signer: AuditSigner,
    principal: Principal,
    *,
    user_id: int | None = None,
    entry_ids: Collection[int] = (),
) -> int:
    """Empty the arguments and effects of what a user did, or of single entries; return of how many.

    Their salts go too: nobody can find out by trying what the digests, which stay, were made of. Who did it, when, and
    the action stay. The erasure is an entry itself. Raises `InvalidValue`, or `NotFound` where an entry is not there.
    """
    if (user_id is None) == (not entry_ids):
        raise InvalidValue("Say whose entries to erase, or which: a user, or ids of entries.")
    async with database.system() as session:
        connection = await session.connection()
        await take_turn(connection)
        await seal_all_of(connection, signer, principal.tenant_id)
        rows = await _find(connection, principal.tenant_id, user_id, entry_ids)
        unerased = [row for row in rows if row.erased_at is None]
        if unerased:
            await _empty(connection, signer, unerased)
            await _note(connection, principal, user_id, entry_ids, len(unerased))
    return len(unerased)


async def _find(
    connection: AsyncConnection, tenant_id: int, user_id: int | None, entry_ids: Collection[int]
) -> Sequence[Any]:
    entry_id = col(AuditEntry.id)
    columns: list[Any] = [AuditEntry.tenant_id, entry_id, AuditEntry.seal, AuditEntry.erased_at]
    wanted = sa.select(*columns).where(col(AuditEntry.tenant_id) == tenant_id).order_by(entry_id)
    if user_id is not None:
        return (await connection.execute(wanted.where(col(AuditEntry.user_id) == user_id))).all()
    given = sa.any_(sa.literal(sorted(entry_ids), ARRAY(sa.BigInteger)))
    rows = (await connection.execute(wanted.where(entry_id == given))).all()
    if absent := set(entry_ids) - {row.id for row in rows}:
        raise NotFound(f"There is no entry {min(absent)} here; nothing was erased.")
    return rows


async def _empty(connection: AsyncConnection, signer: AuditSigner, rows: Sequence[Any]) -> None:
    now = utc_now()
    signatures = [signer.sign(_PURPOSE, row.tenant_id, row.id, row.seal, now) for row in rows]
    await connection.execute(_EMPTY, {"ids": [row.id for row in rows], "signatures": signatures, "now": now})


_EMPTY = sa.text("""
    update mercato.audit_entries as entry
    set arguments = '{}', effect = '{}', salt = null, erased_at = :now, erasure = erased.signature
    from unnest(cast(:ids as bigint[]), cast(:signatures as bytea[])) as erased (id, signature)
    where entry.id = erased.id
""")


async def _note(
    connection: AsyncConnection, principal: Principal, user_id: int | None, entry_ids: Collection[int], erased: int
) -> None:
    arguments = {"user_id": user_id} if user_id is not None else {"entry_ids": sorted(entry_ids)}
    values = entry_values(principal, ACTION, arguments, {"entries": erased})
    await connection.execute(sa.insert(AuditEntry).values(tenant_id=principal.tenant_id, **values))


def is_well_erased(signer: AuditSigner, entry: Any) -> bool:
    """Whether an entry that is marked as erased was erased by us, and wholly."""
    empty = entry.arguments == {} and entry.effect == {} and entry.salt is None
    return empty and signer.fits(entry.erasure, _PURPOSE, entry.tenant_id, entry.id, entry.seal, entry.erased_at)
