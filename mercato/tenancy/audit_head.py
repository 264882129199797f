"""The end of each tenant's audit chain, kept in a signed row of its own, so that a chain cut short shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Field, col

from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, timestamp, utc_now

NOTHING_BEFORE = b""
"""What the first entry of a chain follows."""
END_LOST = b"the end of the chain was lost"
"""What an entry follows where the end could not be trusted: it fits no entry before it, so that the break stays."""
_PURPOSE = "head of a chain"


class AuditHead(TenantOwned, table=True):
    """Where a tenant's chain ends: the last number that was given, and its seal."""

    __tablename__ = "audit_heads"
    __table_args__ = (
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.UniqueConstraint("tenant_id"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    number: int = Field(sa_type=sa.BigInteger)
    seal: bytes = Field(sa_type=sa.LargeBinary)
    sealed_at: datetime = timestamp()
    signature: bytes = Field(sa_type=sa.LargeBinary)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a chain, or of its part up to here."""

    number: int
    seal: bytes


async def read_ends(connection: AsyncConnection, signer: AuditSigner, tenants: Collection[int]) -> dict[int, End]:
    """Return where to go on with each chain.

    A head that is missing, not ours or behind its entries is no reason to begin anew: a chain that looks whole would
    hide what was removed. The next entry then follows `END_LOST`.
    """
    if not tenants:
        return {}
    rows = await connection.execute(_READ, {"tenants": sorted(tenants)})
    return {row.tenant_id: _end(signer, row) for row in rows}


_READ = sa.text("""
    select tenant_id, head.number, head.seal, head.sealed_at, head.signature, coalesce(greatest(
        (select max(number) from mercato.audit_entries as entry where entry.tenant_id = wanted.tenant_id),
        (select max(number) from mercato.audit_anchors as anchor where anchor.tenant_id = wanted.tenant_id)
    ), 0) as there
    from unnest(cast(:tenants as bigint[])) as wanted (tenant_id)
    left join mercato.audit_heads as head using (tenant_id)
""")


def _end(signer: AuditSigner, row: Any) -> End:
    if row.number is None and row.there == 0:
        return End(0, NOTHING_BEFORE)
    if row.number is not None and row.number >= row.there and is_ours(signer, row):
        return End(row.number, row.seal)
    return End(row.there, END_LOST)


def is_ours(signer: AuditSigner, head: Any) -> bool:
    """Whether a head is as it was written."""
    return signer.fits(head.signature, _PURPOSE, head.tenant_id, head.number, head.seal, head.sealed_at)


async def read_head(connection: AsyncConnection, tenant_id: int) -> Any:
    """Return the head of a tenant's chain; None where there is none."""
    columns: list[Any] = [
        getattr(AuditHead, name) for name in ("tenant_id", "number", "seal", "sealed_at", "signature")
    ]
    return (await connection.execute(sa.select(*columns).where(col(AuditHead.tenant_id) == tenant_id))).first()


async def move_heads(connection: AsyncConnection, signer: AuditSigner, ends: Mapping[int, End]) -> None:
    """Write down where chains end now."""
    now = utc_now()
    rows = [
        {
            "tenant_id": tenant_id,
            "number": end.number,
            "seal": end.seal,
            "sealed_at": now,
            "signature": signer.sign(_PURPOSE, tenant_id, end.number, end.seal, now),
        }
        for tenant_id, end in sorted(ends.items())
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    await connection.execute(_MOVE, columns)


_MOVE = sa.text("""
    insert into mercato.audit_heads (tenant_id, number, seal, sealed_at, signature)
    select * from unnest(
        cast(:tenant_id as bigint[]), cast(:number as bigint[]), cast(:seal as bytea[]),
        cast(:sealed_at as timestamptz[]), cast(:signature as bytea[])
    )
    on conflict (tenant_id) do update set number = excluded.number, seal = excluded.seal,
        sealed_at = excluded.sealed_at, signature = excluded.signature
""")
