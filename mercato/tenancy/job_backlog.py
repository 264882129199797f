"""Backlog: what waits and runs in the ledger now, of all tenants or of one (`tenant_id`).

It is read by the indexes that workers use, so that a long history costs nothing; only the dead are counted in all rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mercato.tenancy.ledger import ENDED
from mercato.tenancy.ledger_choosing import Limit
from mercato.tenancy.system_pool import SystemPool


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits (`due` of it could begin now) and runs of one job. `oldest_due_s` is 0 where nothing is due.

    Apart from those, `asking` wait for a person's answer.
    """

    name: str
    waiting: int
    due: int
    running: int
    oldest_due_s: float
    asking: int


_OF_TENANT = "($1::bigint is null or tenant_id = $1)"
_IS_ASKING = f"task_id is not null and state not in {ENDED!r} and state = 'waiting'"
_BACKLOG = f"""
    select name, sum(waiting)::bigint, sum(due)::bigint, sum(running)::bigint, max(oldest_due_s)::float8,
        sum(asking)::bigint from (
        select name, count(*) as waiting, count(*) filter (where due_at <= now()) as due, 0 as running,
            greatest(0, extract(epoch from now() - min(due_at))) as oldest_due_s, 0 as asking
        from mercato.jobs where state in ('queued', 'retrying') and {_OF_TENANT} group by name
        union all
        select name, 0, 0, count(*), 0, 0 from mercato.jobs where state = 'running' and {_OF_TENANT} group by name
        union all
        select name, 0, 0, 0, 0, count(*) from mercato.jobs where {_IS_ASKING} and {_OF_TENANT} group by name
    ) as part group by name order by name
"""  # noqa: S608  # of parts that stand in this file
_DEAD = "select name, count(*) from mercato.jobs where state = 'dead' group by name"
_ENDED = f"""
    select name, state, count(*) from mercato.jobs
    where state in {ENDED!r} and finished_at > now() - $2 * interval '1 second' and {_OF_TENANT} group by name, state
"""  # noqa: S608  # of parts that stand in this file
_BUSY = f"""
    select worker, count(*) from mercato.jobs where state = 'running' and {_OF_TENANT} group by worker order by worker
"""  # noqa: S608  # of parts that stand in this file


_OLDEST_DUE = """
    with wanted as (
        select * from unnest($2::text[], $3::int[], $4::int[], $5::text[])
            as one (name, everywhere, of_tenant, integration)
    ), busy as (
        select name, tenant_id, count(*) as runs from mercato.jobs where state = 'running' group by name, tenant_id
    ), held as materialized (
        select name, null::bigint as tenant_id from wanted
        where (select sum(runs) from busy where busy.name = wanted.name) >= everywhere
        union all
        select name, tenant_id from wanted join busy using (name) where runs >= of_tenant
        union all
        select name, tenant_id from wanted join mercato.circuits using (integration) where opened_at is not null
    )
    select greatest(0, extract(epoch from now() - min(due_at)))::float8 from mercato.jobs
    where state in ('queued', 'retrying') and due_at <= now() and name = any($1::text[]) and not exists (
        select from held
        where held.name = jobs.name and (held.tenant_id is null or held.tenant_id = jobs.tenant_id)
    )
"""


async def read_oldest_due(pool: SystemPool, names: Collection[str], limits: Collection[Limit]) -> float:
    """Return for how many seconds the oldest run of these jobs has been due that a free worker would begin; 0 for none.

    What waits for an integration that is away, or for runs of its own job to end, does so whatever workers there are.
    """
    columns = ("name", "everywhere", "tenant", "integration")
    values = [[getattr(one, column) for one in limits] for column in columns]
    oldest: float | None = (await pool.fetch(_OLDEST_DUE, list(names), *values))[0][0]
    return oldest or 0.0


async def read_backlog(pool: SystemPool, tenant_id: int | None = None) -> list[Backlog]:
    """Return what waits and runs, by job."""
    return [Backlog(*row) for row in await pool.fetch(_BACKLOG, tenant_id)]


async def count_dead(pool: SystemPool) -> dict[str, int]:
    """Return how many runs are dead, by job. Looks at every row that is kept: not to be asked all the time."""
    return dict(await pool.fetch(_DEAD))


async def count_ended(pool: SystemPool, within_s: float, tenant_id: int | None = None) -> dict[tuple[str, str], int]:
    """Return how many runs ended in the last seconds, by job and state."""
    rows = await pool.fetch(_ENDED, tenant_id, within_s)
    return {(name, state): runs for name, state, runs in rows}


async def read_busy(pool: SystemPool, tenant_id: int | None = None) -> dict[str, int]:
    """Return how many runs each worker is at; those that are at none are not known of."""
    return dict(await pool.fetch(_BUSY, tenant_id))
