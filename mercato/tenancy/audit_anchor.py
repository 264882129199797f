"""Anchors: what is left of entries that were pruned, signed, so that a chain may begin after them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Field, col

from mercato.tenancy.audit_signer import AuditSigner, Signable
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, timestamp

_PURPOSE = "anchor of a chain"
_SIGNED = ("tenant_id", "first_number", "number", "seal", "entries", "first_at", "last_at", "pruned_at")


class AuditAnchor(TenantOwned, table=True):
    """A pruning: the numbers it removed, the seal of the last one, how many entries those were, and from when."""

    __tablename__ = "audit_anchors"
    __table_args__ = (
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.UniqueConstraint("tenant_id", "number"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    first_number: int = Field(sa_type=sa.BigInteger)
    number: int = Field(sa_type=sa.BigInteger)
    seal: bytes = Field(sa_type=sa.LargeBinary)
    entries: int = Field(sa_type=sa.BigInteger)
    first_at: datetime = timestamp()
    last_at: datetime = timestamp()
    pruned_at: datetime = timestamp()
    signature: bytes = Field(sa_type=sa.LargeBinary)


async def read_anchors(connection: AsyncConnection, tenant_id: int) -> Sequence[Any]:
    """Return the anchors of a tenant, in the order of their numbers."""
    columns = [getattr(AuditAnchor, name) for name in (*_SIGNED, "signature")]
    wanted = sa.select(*columns).where(col(AuditAnchor.tenant_id) == tenant_id)
    return (await connection.execute(wanted.order_by(col(AuditAnchor.number)))).all()


def is_ours(signer: AuditSigner, anchor: Any) -> bool:
    """Whether an anchor is as it was written."""
    return signer.fits(anchor.signature, _PURPOSE, *(getattr(anchor, name) for name in _SIGNED))


async def leave_anchor(connection: AsyncConnection, signer: AuditSigner, **values: Signable) -> None:
    """Sign an anchor and write it down; `values` are its columns."""
    signature = signer.sign(_PURPOSE, *(values[name] for name in _SIGNED))
    await connection.execute(sa.insert(AuditAnchor).values(**values, signature=signature))
