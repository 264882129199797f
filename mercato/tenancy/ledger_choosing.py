"""Choosing: which rows of the ledger run next, fairly among tenants and within the limits of each job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mercato.tenancy.system_pool import SystemPool

RUNG_S = 2
"""How long a row that was rung waits for its worker until it is rung again: it may be lost with Redis or the worker."""
PUT_OFF_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Limit:
    """What holds the runs of a job back: so many at once at most, everywhere and for one tenant; an open circuit."""

    name: str
    everywhere: int | None
    tenant: int | None
    integration: str | None = None


# The lanes are the tenants that have something waiting, each by its priorities: found by jumping over the index. Of
# each lane some are looked at, and then one of each tenant is taken in turn, counting what it has running already.
_RING = f"""
    with recursive lanes as (
        (select tenant_id as tenant, priority from mercato.jobs where state in ('queued', 'retrying')
            order by tenant_id, priority limit 1)
        union all
        select found.tenant, found.priority from lanes, lateral (
            select tenant_id as tenant, priority from mercato.jobs
            where state in ('queued', 'retrying')
                and (tenant_id, priority) > (lanes.tenant, lanes.priority)
            order by tenant_id, priority limit 1
        ) as found
    ), busy as (
        select tenant_id as tenant, name, count(*) as runs
        from mercato.jobs where state = 'running' group by 1, 2
    ), busy_tenants as (
        select tenant, sum(runs) as runs from busy group by 1
    ), held as materialized (
        select wanted.name, null::bigint as tenant from unnest($2::text[], $3::int[]) as wanted (name, most)
        where (select sum(runs) from busy where busy.name = wanted.name) >= wanted.most
        union all
        select wanted.name, busy.tenant from unnest($2::text[], $4::int[]) as wanted (name, most)
        join busy on busy.name = wanted.name and busy.runs >= wanted.most
        union all
        select wanted.name, circuits.tenant_id from unnest($2::text[], $6::text[]) as wanted (name, integration)
        join mercato.circuits on circuits.integration = wanted.integration and (
            open_until > now()
            or exists (select from mercato.jobs where jobs.id = trial_job_id and state = 'running')
        )
    ), due as (
        select one.id, lanes.tenant, lanes.priority, one.due_at,
            coalesce(busy_tenants.runs, 0)
            + row_number() over (partition by lanes.tenant order by lanes.priority, one.due_at, one.id) as turn
        from lanes left join busy_tenants using (tenant), lateral (
            select id, due_at from mercato.jobs as waiting
            where state in ('queued', 'retrying') and tenant_id = lanes.tenant
                and priority = lanes.priority and due_at <= now() and (rung_until is null or rung_until <= now())
                and name = any($5::text[])
                and not exists (
                    select from held where held.name = waiting.name
                        and (held.tenant is null or held.tenant = lanes.tenant)
                )
                and (key is null or not exists (
                    select from mercato.jobs as running where running.state = 'running'
                        and running.name = waiting.name and running.key = waiting.key
                        and running.tenant_id = lanes.tenant
                ))
            order by due_at, id limit $1
        ) as one
    ), chosen as materialized (
        select array(select id from due order by turn, priority, due_at, id limit $1) as ids
    ), picked as (
        select id from mercato.jobs
        where id = any((select ids from chosen)::bigint[])
            and lease_until is null and (rung_until is null or rung_until <= now())
        for update skip locked
    ), rung as (
        update mercato.jobs set rung_until = now() + interval '{RUNG_S} seconds'
        from picked where jobs.id = picked.id returning jobs.id
    )
    select rung.id from rung, chosen order by array_position(chosen.ids, rung.id)
"""  # noqa: S608  # of parts that stand in this file


async def ring(pool: SystemPool, most: int, names: Sequence[str], limits: Sequence[Limit] = ()) -> list[int]:
    """Choose rows of these jobs that are due, fairly among tenants, and mark them as rung; return their ids in turn."""
    columns = ([one.name for one in limits], [one.everywhere for one in limits], [one.tenant for one in limits])
    integrations = [one.integration for one in limits]
    return [row[0] for row in await pool.fetch(_RING, most, *columns, names, integrations)]


_PUT_OFF = f"""
    with held as materialized (
        select wanted.name, tenant_id, greatest(open_until, now() + interval '{RUNG_S} seconds') as until
        from unnest($1::text[], $2::text[]) as wanted (name, integration) join mercato.circuits using (integration)
        where open_until > now()
            or exists (select from mercato.jobs where jobs.id = trial_job_id and state = 'running')
    ), waiting as (
        select one.id, until from held, lateral (
            select id from mercato.jobs where state in ('queued', 'retrying') and jobs.tenant_id = held.tenant_id
                and jobs.name = held.name and due_at <= now() limit {PUT_OFF_AT_ONCE} for update skip locked
        ) as one limit {PUT_OFF_AT_ONCE}
    )
    update mercato.jobs set due_at = until from waiting where jobs.id = waiting.id returning jobs.id
"""  # noqa: S608  # of parts that stand in this file


async def put_off(pool: SystemPool, limits: Sequence[Limit]) -> int:
    """Let some of the rows that wait for an open circuit be due when it is tried again; return how many.

    `ring` leaves them out anyway, but has to look at each that is due.
    """
    outside = [(one.name, one.integration) for one in limits if one.integration is not None]
    if not outside:
        return 0
    return len(await pool.fetch(_PUT_OFF, [name for name, _ in outside], [integration for _, integration in outside]))
