"""Work: a row of the ledger from its claim by a worker to the word of what became of it.

Every step is one statement that says which state it expects, so that what comes late changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from mercato.tenancy import circuits
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.ledger import State
from mercato.tenancy.ledger_choosing import Limit
from mercato.tenancy.system_pool import SystemPool

LEASE_S = 7
"""How long a row is its worker's without a word from it."""
LONGEST_ERROR, LONGEST_PROGRESS = 2_000, 500


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that this worker has now. `attempt` counts from 1. `is_watched`: its integration did not answer lately."""

    id: int
    tenant_id: int
    name: str
    version: int
    payload: Mapping[str, Any]
    attempt: int
    attempts: int
    created_at: datetime
    waited_s: float = 0
    """For how long it could have begun."""
    task_id: UUID | None = None
    exchange: Mapping[str, Any] | None = None
    is_watched: bool = False


class LeaseLost(Exception):
    """The row is not this worker's any more: its work must not be committed."""


_CLAIMED = (
    "jobs.id, tenant_id, name, version, payload, attempt, attempts, created_at,"
    " extract(epoch from now() - due_at)::float8 as waited_s, task_id, exchange"
)
_RUNNING = f"""
    state = 'running', attempt = attempt + 1, worker = $2, rung_until = null,
    lease_until = now() + interval '{LEASE_S} seconds', started_at = coalesce(started_at, now())
"""
_CLAIM = f"""
    with watched as materialized (
        select wanted.name, circuits.tenant_id, opened_at from unnest($4::text[], $5::text[])
            as wanted (name, integration) join mercato.circuits using (integration)
    )
    update mercato.jobs set {_RUNNING}
    where id = any($1::bigint[]) and state in ('queued', 'retrying') and due_at <= now()
        and key is null and name <> all($3::text[])
        and not exists (
            select from watched where watched.name = jobs.name and watched.tenant_id = jobs.tenant_id
                and opened_at is not null
        )
    returning {_CLAIMED}, exists (
        select from watched where watched.name = jobs.name and watched.tenant_id = jobs.tenant_id
    )
"""  # noqa: S608  # of parts that stand in this file
_OTHERS = """
    select id, tenant_id, name from mercato.jobs
    where id = any($1::bigint[]) and state in ('queued', 'retrying') and due_at <= now() order by id
"""
_LOCK = "select pg_advisory_xact_lock(hashtextextended('mercato.jobs ' || $1, 0))"
_LATER = "update mercato.jobs set rung_until = now() + interval '0.2 seconds' where id = $1 and lease_until is null"
_CLAIM_WITH_ROOM = f"""
    update mercato.jobs set {_RUNNING}
    where id = $1 and state in ('queued', 'retrying') and due_at <= now()
        and ($3::int is null or $3 > (
            select count(*) from mercato.jobs as others where others.state = 'running' and others.name = jobs.name
        ))
        and ($4::int is null or $4 > (
            select count(*) from mercato.jobs as others where others.state = 'running' and others.name = jobs.name
                and others.tenant_id = jobs.tenant_id
        ))
        and (key is null or not exists (
            select from mercato.jobs as others where others.state = 'running' and others.name = jobs.name
                and others.key = jobs.key and others.tenant_id = jobs.tenant_id
        ))
    returning {_CLAIMED}
"""  # noqa: S608  # of parts that stand in this file


async def claim(pool: SystemPool, ids: Sequence[int], worker: str, limits: Mapping[str, Limit]) -> list[Claimed]:
    """Take rows that were rung, for as long as a lease; those that may not run now, or not again, are left out."""
    counted = [one.name for one in limits.values() if one.everywhere is not None or one.tenant is not None]
    outside = [(one.name, one.integration) for one in limits.values() if one.integration is not None]
    columns = [name for name, _ in outside], [integration for _, integration in outside]
    claimed = [Claimed(*row) for row in await pool.fetch(_CLAIM, ids, worker, counted, *columns)]
    if len(claimed) < len(ids):
        for job_id, tenant_id, name in await pool.fetch(_OTHERS, ids):
            limit = limits.get(name, Limit(name, None, None))
            async with pool.transaction() as connection:
                claimed += await _claim_alone(connection, job_id, tenant_id, worker, limit)
    return claimed


async def _claim_alone(connection: Any, job_id: int, tenant_id: int, worker: str, limit: Limit) -> list[Claimed]:
    await connection.execute(_LOCK, limit.name)
    admission = circuits.Admission(may_run=True, is_watched=False)
    rows: list[Any] = []
    if limit.integration is not None:
        admission = await circuits.admit(connection, tenant_id, limit.integration, job_id)
    if admission.may_run:
        rows = await connection.fetch(_CLAIM_WITH_ROOM, job_id, worker, limit.everywhere, limit.tenant)
    if not rows:
        await connection.execute(_LATER, job_id)
    return [Claimed(*(*row, admission.is_watched)) for row in rows]


_RENEW = f"""
    update mercato.jobs set lease_until = now() + interval '{LEASE_S} seconds'
    where id = any($1::bigint[]) and worker = $2 and state = 'running' returning id, attempt, cancel_asked
"""  # noqa: S608  # of parts that stand in this file


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease that goes on. `cancel_asked`: somebody wants the run to end."""

    id: int
    attempt: int
    cancel_asked: bool


async def renew(pool: SystemPool, ids: Sequence[int], worker: str) -> list[Renewed]:
    """Go on with the leases of a worker; what is not returned is not its own any more."""
    return [Renewed(*row) for row in await pool.fetch(_RENEW, ids, worker)]


_PROGRESS = """
    update mercato.jobs set progress = jsonb_build_object(
        'done', $2::float8, 'total', $3::float8, 'message', $4::text, 'at', now()
    )
    where id = $1 and attempt = $5 and state = 'running'
"""


async def note_progress(
    pool: SystemPool, job_id: int, attempt: int, done: float, total: float | None = None, message: str | None = None
) -> None:
    """Write down how far an attempt is, past the transaction of its work; what no JSON can say is left out."""
    if math.isfinite(done):
        most = total if total is not None and math.isfinite(total) else None
        text = None if message is None else message.replace("\0", "")[:LONGEST_PROGRESS]
        await pool.fetch(_PROGRESS, job_id, done, most, text, attempt)


@dataclass(frozen=True, slots=True)
class Done:
    """A run that went well. `result` is JSON, or None."""

    id: int
    attempt: int
    result: str | None = None
    cost_cents: int = 0


_ENDED_WELL = """
    state = 'done', finished_at = now(), lease_until = null, worker = null, cancel_asked = false, error = null,
    error_kind = null
"""
_DONE = f"""
    update mercato.jobs set {_ENDED_WELL}, result = cast(ended.result as jsonb),
        cost_cents = jobs.cost_cents + ended.cost_cents
    from unnest($1::bigint[], $2::int[], $3::text[], $4::int[]) as ended (id, attempt, result, cost_cents)
    where jobs.id = ended.id and jobs.attempt = ended.attempt and state = 'running' and worker = $5
    returning jobs.id
"""  # noqa: S608  # of parts that stand in this file
_DONE_HERE = sa.text(
    f"update mercato.jobs set {_ENDED_WELL}, result = cast(:result as jsonb), cost_cents = cost_cents + :cost_cents"  # noqa: S608
    " where id = :id and attempt = :attempt and state = 'running' and worker = :worker returning id"
).bindparams(sa.bindparam("result", type_=sa.String))


async def finish(pool: SystemPool, ended: Sequence[Done], worker: str) -> set[int]:
    """Mark runs that wrote nothing as done, many at once; return the ids of those that were this worker's still."""
    columns: list[list[Any]] = [[], [], [], []]
    for one in ended:
        for column, value in zip(columns, (one.id, one.attempt, one.result, one.cost_cents), strict=True):
            column.append(value)
    return {row[0] for row in await pool.fetch(_DONE, *columns, worker)}


async def finish_within(db: TenantDatabase, ended: Done, worker: str) -> None:
    """Mark a run as done in the transaction of what it wrote. Raises `LeaseLost`: then nothing may be committed."""
    values = {
        "id": ended.id,
        "attempt": ended.attempt,
        "result": ended.result,
        "cost_cents": ended.cost_cents,
        "worker": worker,
    }
    connection = await db.session.connection()
    if (await connection.execute(_DONE_HERE, values)).first() is None:
        raise LeaseLost


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that went wrong. `wait_s` until it is tried again; None where it is not. `counts`: as an attempt."""

    id: int
    attempt: int
    error: str
    error_kind: str
    wait_s: float | None
    cost_cents: int = 0
    counts: bool = True


_IS_SUPERSEDED = """
    key is not null and exists (
        select from mercato.jobs as younger where younger.state in ('queued', 'retrying')
            and younger.name = jobs.name and younger.key = jobs.key and younger.tenant_id = jobs.tenant_id
    )
"""
"""A younger one with the same key waits already: it stands for this one then."""
_IS_DEAD = "($6::float8 is null or ($8::bool and attempt >= attempts))"
_FAIL = f"""
    update mercato.jobs set
        state = case
            when cancel_asked then 'cancelled'
            when {_IS_DEAD} then 'dead'
            when {_IS_SUPERSEDED} then 'cancelled'
            else 'retrying' end,
        attempt = attempt - case when $8 then 0 else 1 end,
        finished_at = case when cancel_asked or {_IS_DEAD} or {_IS_SUPERSEDED} then now() end,
        due_at = now() + coalesce($6, 0) * interval '1 second',
        error = $3, error_kind = $4, lease_until = null, worker = null, rung_until = null, cancel_asked = false,
        cost_cents = cost_cents + $7
    where id = $1 and attempt = $2 and state = 'running' and worker = $5
    returning state
"""  # noqa: S608  # of parts that stand in this file


async def fail(pool: SystemPool, failed: Failed, worker: str) -> State | None:
    """Take down a failure; return what the run is now, or None where it was not this worker's any more."""
    error = failed.error.replace("\0", "")[:LONGEST_ERROR]
    values = (failed.id, failed.attempt, error, failed.error_kind, worker, failed.wait_s, failed.cost_cents)
    rows = await pool.fetch(_FAIL, *values, failed.counts)
    return rows[0][0] if rows else None


_RELEASE = """
    update mercato.jobs set state = case when attempt > 1 then 'retrying' else 'queued' end, attempt = attempt - 1,
        lease_until = null, worker = null, rung_until = null
    where id = any($1::bigint[]) and worker = $2 and state = 'running' returning id, pg_notify('mercato_jobs', '')
"""


async def release(pool: SystemPool, ids: Sequence[int], worker: str) -> int:
    """Give rows back that this worker will not come to an end with; no attempt is counted. Returns how many."""
    return len(await pool.fetch(_RELEASE, ids, worker))


async def reap(pool: SystemPool) -> int:
    """Take back the rows of workers that do not renew their leases; return how many.

    They keep the time at which they were due, and with it their place before what was due later.
    """
    return len(await pool.fetch(_REAP_LOST))


_REAP_LOST = f"""
    update mercato.jobs set
        state = case
            when cancel_asked then 'cancelled'
            when attempt >= attempts then 'dead'
            when {_IS_SUPERSEDED} then 'cancelled'
            else 'retrying' end,
        finished_at = case when cancel_asked or attempt >= attempts or {_IS_SUPERSEDED} then now() end,
        error = 'its worker did not answer any more', error_kind = 'lost',
        lease_until = null, worker = null, rung_until = null, cancel_asked = false
    where id in (
        select id from mercato.jobs where state = 'running' and lease_until < now() limit 500 for update skip locked
    )
    returning id, pg_notify('mercato_jobs', '')
"""  # noqa: S608  # of parts that stand in this file
