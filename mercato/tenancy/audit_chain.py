"""The audit's chain: each tenant's committed entries, numbered and sealed one after the other.

The order is that of the commits as far as it can be seen: what one run finds comes before what only a later run finds,
and within a run the order is that of the ids. So no writer waits for another, and a removed entry shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.audit_digest import new_salt, salted_digest
from mercato.tenancy.audit_head import END_LOST, End, move_heads, read_ends
from mercato.tenancy.audit_signer import AuditSigner, Signable
from mercato.tenancy.database import Database

MOST_IN_A_RUN = 10_000
MOST_IN_A_BATCH = 500
"""So many take some milliseconds, for which everything else in the process waits."""
_LOCK = 0x6D6175646974  # "maudit"
_LOCK_TIMEOUT = "30s"
_PURPOSE = "entry of a chain"
_SEALED = (
    *("tenant_id", "id", "at", "user_id", "kind", "credential_id", "client_id", "request_id", "action"),
    *("arguments_digest", "effect_digest"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did: how many entries it sealed, and the tenants whose chain's end was missing or not ours."""

    sealed: int
    lost: frozenset[int] = frozenset()


async def seal(database: Database, signer: AuditSigner, *, wait: bool = False) -> Run | None:
    """Seal what is committed, at most `MOST_IN_A_RUN`. None where another is at it, unless we `wait` for our turn."""
    async with database.system() as session:
        connection = await session.connection()
        if wait:
            await take_turn(connection)
        elif not await connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))):
            return None
        return await seal_waiting(connection, signer)


async def take_turn(connection: AsyncConnection) -> None:
    """Wait until nobody else works on any chain, and keep it so until the transaction ends."""
    await connection.execute(sa.text(f"set local lock_timeout = '{_LOCK_TIMEOUT}'"))
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


async def seal_all_of(connection: AsyncConnection, signer: AuditSigner, tenant_id: int) -> None:
    """Seal all that is committed of one tenant. For those who have taken their turn."""
    while (await seal_waiting(connection, signer, tenant_id)).sealed == MOST_IN_A_RUN:
        pass


async def seal_waiting(connection: AsyncConnection, signer: AuditSigner, tenant_id: int | None = None) -> Run:
    """Seal what is committed, of one tenant or of all. For those who have taken their turn."""
    ends: dict[int, End] = {}
    lost: set[int] = set()
    ids = await _waiting(connection, tenant_id)
    for batch in _batches(ids):
        rows = (await connection.execute(_rows_to_seal(batch))).all()
        found = await read_ends(connection, signer, {row.tenant_id for row in rows} - ends.keys())
        lost |= {tenant for tenant, end in found.items() if end.seal == END_LOST}
        ends |= found
        await _store(connection, [_next(signer, ends, row) for row in rows])
    if ends:
        await move_heads(connection, signer, ends)
    return Run(len(ids), frozenset(lost))


async def _waiting(connection: AsyncConnection, tenant_id: int | None) -> Sequence[int]:
    waiting = sa.select(col(AuditEntry.id)).where(col(AuditEntry.number).is_(None))
    if tenant_id is not None:
        waiting = waiting.where(col(AuditEntry.tenant_id) == tenant_id)
    return (await connection.execute(waiting.order_by(col(AuditEntry.id)).limit(MOST_IN_A_RUN))).scalars().all()


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(ids), MOST_IN_A_BATCH):
        yield ids[first : first + MOST_IN_A_BATCH]


def _rows_to_seal(ids: Sequence[int]) -> sa.Select[Any]:
    """Select what goes into a seal, and what was said only where there are no digests of it yet."""
    undigested = sa.or_(col(AuditEntry.arguments_digest).is_(None), col(AuditEntry.effect_digest).is_(None))
    said = [
        sa.case((undigested, col(AuditEntry.arguments))).label("undigested_arguments"),
        sa.case((undigested, col(AuditEntry.effect))).label("undigested_effect"),
    ]
    wanted = sa.any_(sa.literal(list(ids), ARRAY(sa.BigInteger)))
    columns = [*sealed_columns(), col(AuditEntry.salt), *said]
    return sa.select(*columns).where(col(AuditEntry.id) == wanted).order_by(col(AuditEntry.id))


def sealed_columns() -> list[Any]:
    """Return the columns that go into a seal."""
    return [getattr(AuditEntry, name) for name in _SEALED]


@dataclass(frozen=True, slots=True)
class _Link:
    """What the chain adds to an entry."""

    id: int
    number: int
    seal: bytes
    salt: bytes | None
    arguments_digest: bytes
    effect_digest: bytes


def _next(signer: AuditSigner, ends: dict[int, End], row: Any) -> _Link:
    """Return what an entry gets, and let its tenant's chain end there."""
    fields, end = row._asdict(), ends[row.tenant_id]
    if row.undigested_arguments is not None:
        salt = fields["salt"] = new_salt()
        fields["arguments_digest"] = salted_digest(salt, row.undigested_arguments)
        fields["effect_digest"] = salted_digest(salt, row.undigested_effect)
    signature = signer.sign(_PURPOSE, *_signed(fields, end))
    ends[row.tenant_id] = End(end.number + 1, signature)
    digests = (fields["arguments_digest"], fields["effect_digest"])
    return _Link(row.id, end.number + 1, signature, fields["salt"], *digests)


def follows(signer: AuditSigner, entry: Mapping[str, Any], end: End) -> bool:
    """Whether an entry is the one that was sealed after this end, and unchanged."""
    return signer.fits(entry["seal"], _PURPOSE, *_signed(entry, end))


def _signed(entry: Mapping[str, Any], end: End) -> list[Signable]:
    return [end.seal, end.number + 1, *(entry[name] for name in _SEALED)]


async def _store(connection: AsyncConnection, links: Sequence[_Link]) -> None:
    rows = [asdict(link) for link in links]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    stored = await connection.execute(_STORE, columns)
    if stored.rowcount != len(rows):
        raise RuntimeError(f"{len(rows) - stored.rowcount} entries of the audit changed while they were sealed")


_STORE = sa.text("""
    update mercato.audit_entries as entry
    set number = link.number, seal = link.seal, salt = link.salt,
        arguments_digest = link.arguments_digest, effect_digest = link.effect_digest
    from unnest(
        cast(:id as bigint[]), cast(:number as bigint[]), cast(:seal as bytea[]), cast(:salt as bytea[]),
        cast(:arguments_digest as bytea[]), cast(:effect_digest as bytea[])
    ) as link (id, number, seal, salt, arguments_digest, effect_digest)
    where entry.id = link.id and entry.number is null
""")
