"""Answers: what a write answered, kept in its own transaction until it is known to have reached its caller.

An answer is kept for ten minutes where it did not, or where the caller gave the call a key. It is sealed, because an
answer may hold a secret that is shown once. Calls are told apart by digests that the caller of this module makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, timestamp
from mercato.tenancy.secrets import KeyRing, Place

Status = Literal["committed", "delivered", "undelivered", "abandoned"]
KEPT = timedelta(minutes=10)
_MOST_FOUND = 20
_PURGED_AT_ONCE = 500


class Answer(TenantOwned, table=True):
    """One answer of one write, or (`abandoned`, without an answer) the word that a running call has lost its caller."""

    __tablename__ = "answers"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "state_digest"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.CheckConstraint("status in ('committed', 'delivered', 'undelivered', 'abandoned')", name="status"),
        sa.CheckConstraint("(status = 'abandoned') = (sealed is null)", name="sealed"),
        sa.Index(None, "tenant_id", "fingerprint"),
        sa.Index(None, "tenant_id", "key_digest", postgresql_where=sa.text("key_digest is not null")),
        sa.Index(None, "created_at"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    principal: str
    tool: str
    fingerprint: bytes
    key_digest: bytes | None = None
    state_digest: bytes | None = None
    sealed: bytes | None = None
    status: str
    created_at: datetime = timestamp(now=True)


class Called(Protocol):
    """What tells a call from others: `mercato.tools.replays.Fingerprint`."""

    @property
    def tenant_id(self) -> int:
        """Whose call it is."""

    @property
    def principal(self) -> str:
        """Who calls."""

    @property
    def tool(self) -> str:
        """Which tool."""

    @property
    def digest(self) -> bytes:
        """Of the principal, the tool and the arguments."""

    @property
    def key(self) -> bytes | None:
        """Of the principal and the key."""

    @property
    def state(self) -> bytes | None:
        """Of the principal and the request state."""


@dataclass(frozen=True, slots=True)
class Found:
    """A row that may concern a call."""

    id: int
    status: Status
    fingerprint: bytes
    key_digest: bytes | None
    state_digest: bytes | None
    sealed: bytes | None
    created_at: datetime


_FOUND = "id, status, fingerprint, key_digest, state_digest, sealed, created_at"
# The tenant is named within the statement, which is read from left to right: the row of `bound` is there before any
# answer is looked at. Locks are tried, all of them; `twin` only shows a call without a key that there is one with it.
_LOOK_UP = f"""
    with bound as materialized (
        select set_config('app.tenant_id', cast(:tenant_id as text), true) as tenant_id,
            (select coalesce(bool_and(pg_try_advisory_xact_lock(lock)), true)
                from unnest(cast(:locks as bigint[])) as lock) as locked,
            (select count(pg_try_advisory_xact_lock(lock)) from unnest(cast(:shown as bigint[])) as lock) as shown
    )
    select bound.locked, found.* from bound left join lateral (
        select {_FOUND} from mercato.answers
        where tenant_id = bound.tenant_id::bigint and principal = :principal and created_at > :since
            and (fingerprint = :fingerprint and status <> 'delivered' or key_digest = :key or state_digest = :state)
        order by id desc limit {_MOST_FOUND}
    ) as found on true
"""  # noqa: S608  # of parts that stand in this file
_STATEMENT = sa.text(_LOOK_UP).bindparams(
    sa.bindparam("principal", type_=sa.String),
    sa.bindparam("since", type_=sa.DateTime(timezone=True)),
    *(sa.bindparam(name, type_=sa.LargeBinary) for name in ("fingerprint", "key", "state")),
)


async def look_up(database: Database, call: Called, now: datetime) -> list[Found]:
    """Return what is known of a call, newest first, in one round trip."""
    return _found(await database.single(_STATEMENT, _values(call, now)))


def look_up_within(
    connection: sa.Connection, call: Called, now: datetime, *, lock: bool = False
) -> tuple[bool, list[Found]]:
    """Do the same in a transaction of the tenant; with `lock`, try to keep equal calls out of it.

    Returns whether it has the locks too. They belong to the transaction. What is found is as it was before they were
    taken: look once more where that matters.
    """
    rows = connection.execute(_STATEMENT, _values(call, now, lock=lock)).all()
    return bool(rows[0].locked), _found(rows)


def _values(call: Called, now: datetime, *, lock: bool = False) -> dict[str, Any]:
    exact = [digest for digest in (call.key, call.state) if digest is not None]
    return {
        "tenant_id": str(call.tenant_id),
        "principal": call.principal,
        "since": now - KEPT,
        "fingerprint": call.digest if call.key is None else None,
        "key": call.key,
        "state": call.state,
        "locks": [_lock_of(digest) for digest in exact or [call.digest]] if lock else [],
        "shown": [_lock_of(call.digest)] if lock and exact else [],
    }


def _lock_of(digest: bytes) -> int:
    return int.from_bytes(digest[:8], signed=True)


def _stored_lock_of(digest: bytes) -> int:
    """Return the lock that says that an answer is stored: everybody may share it, and nobody waits for it."""
    return int.from_bytes(digest[8:16], signed=True)


def _found(rows: Sequence[Any]) -> list[Found]:
    return [Found(*row[1:]) for row in rows if row.id is not None]


async def keep(db: TenantDatabase, call: Called, sealed: bytes, status: Status, at: datetime) -> int:
    """Keep an answer, in the transaction of its write; return its id."""
    values = {
        "principal": call.principal,
        "tool": call.tool,
        "fingerprint": call.digest,
        "key_digest": call.key,
        "state_digest": call.state,
        "sealed": sealed,
        "status": status,
        "created_at": at,
        "stored": _stored_lock_of(call.digest),
    }
    connection = await db.session.connection()
    return int((await connection.execute(_KEEP, values)).scalar_one())


def is_committing(connection: sa.Connection, call: Called) -> bool:
    """Whether an equal call has its answer stored and only its commit before it, which may outlive its process."""
    return bool(connection.execute(_IS_COMMITTING, {"lock": _stored_lock_of(call.digest)}).scalar_one())


def seal(ring: KeyRing, call: Called, answer: bytes) -> bytes:
    """Return an answer as it is stored."""
    return ring.seal(answer, _place(call.tenant_id, call.digest))


def unseal(ring: KeyRing, call: Called, found: Found) -> bytes:
    """Return a stored answer. Raises `InvalidValue` where its key is gone."""
    return ring.open(found.sealed or b"", _place(call.tenant_id, found.fingerprint))


def _place(tenant_id: int, fingerprint: bytes) -> Place:
    return tenant_id, "answers", "sealed", _lock_of(fingerprint)


async def write_fates(database: Database, fates: Mapping[int, bool]) -> None:
    """Write down which answers were delivered and which were not. A delivered one that nobody can ask for goes."""
    delivered = [answer_id for answer_id, fate in fates.items() if fate]
    lost = [answer_id for answer_id, fate in fates.items() if not fate]
    async with database.system() as session:
        connection = await session.connection()
        forgotten = await connection.execute(_FORGET, {"ids": delivered}) if delivered else None
        if lost or (forgotten is not None and len(forgotten.all()) < len(delivered)):
            await connection.execute(_DECIDE, {"delivered": delivered, "lost": lost})


async def mark_abandoned(database: Database, call: Called, now: datetime) -> int:
    """Say that a running call has lost its caller; return the id of that word."""
    values = {"principal": call.principal, "tool": call.tool, "fingerprint": call.digest, "created_at": now}
    marked = sa.insert(Answer).values(tenant_id=call.tenant_id, status="abandoned", **values).returning(col(Answer.id))
    async with database.system() as session:
        return int((await (await session.connection()).execute(marked)).scalar_one())


async def unmark(database: Database, mark_id: int) -> None:
    """Take it back: the call has come to its end."""
    async with database.system() as session:
        await (await session.connection()).execute(_UNMARK, {"id": mark_id})


async def purge_answers(database: Database, now: datetime) -> int:
    """Remove the rows that are past their time, in lots that hold nobody up; return how many."""
    total = 0
    while True:
        async with database.system() as session:
            removed = len((await (await session.connection()).execute(_PURGE, {"before": now - KEPT})).all())
        total += removed
        if removed < _PURGED_AT_ONCE:
            return total


_KEEP = sa.insert(Answer).returning(
    col(Answer.id), sa.func.pg_try_advisory_xact_lock_shared(sa.bindparam("stored", type_=sa.BigInteger))
)
_IS_COMMITTING = sa.text(
    "select exists (select from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
    " and database = (select oid from pg_database where datname = current_database())"
    " and classid::bigint << 32 | objid::bigint = cast(:lock as bigint))"
).bindparams(sa.bindparam("lock", type_=sa.BigInteger))
_FORGET = sa.text(
    "delete from mercato.answers where id = any(cast(:ids as bigint[]))"
    " and key_digest is null and state_digest is null and status <> 'abandoned' returning id"
)
_DECIDE = sa.text(
    "update mercato.answers set status = case when id = any(cast(:lost as bigint[])) then 'undelivered'"
    " else 'delivered' end where id = any(cast(:delivered as bigint[]) || cast(:lost as bigint[]))"
    " and status <> 'abandoned'"
)
_UNMARK = sa.text("delete from mercato.answers where id = :id and status = 'abandoned'").bindparams(
    sa.bindparam("id", type_=sa.BigInteger)
)
_PURGE = sa.text(
    "delete from mercato.answers where id in (select id from mercato.answers where created_at <= :before"  # noqa: S608
    f" order by created_at limit {_PURGED_AT_ONCE} for update skip locked) returning id"
).bindparams(sa.bindparam("before", type_=sa.DateTime(timezone=True)))
