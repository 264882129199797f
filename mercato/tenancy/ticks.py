"""Ticks: the times at which schedules ran, a row for each, so that however many workers look, each runs once.

The clock is the database's: what a worker's own clock says decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field

from mercato.tenancy.ledger import NewJob
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp
from mercato.tenancy.system_pool import SystemPool


class ScheduleState(TenantOwned, table=True):
    """How far a schedule was looked at by a tenant's clock, or (tenant 0) the deployment's, and if it is paused."""

    __tablename__ = "schedules"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name"), {"schema": CORE_SCHEMA})

    id: int = identity()
    name: str
    looked_until: datetime = timestamp()
    paused: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})


class Tick(TenantOwned, table=True):
    """A time at which a schedule ran, and the run."""

    __tablename__ = "ticks"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name", "tick"), {"schema": CORE_SCHEMA})

    id: int = identity()
    name: str
    tick: datetime = timestamp()
    job_id: int = reference()


@dataclass(frozen=True, slots=True)
class Clocked:
    """Whose clock a schedule goes by: a tenant's, or (tenant 0) the deployment's, which is UTC."""

    tenant_id: int
    timezone: str
    looked_until: datetime | None


@dataclass(frozen=True, slots=True)
class Due:
    """Some ticks of one clock, and up to when it was looked at; there may be none."""

    tenant_id: int
    ticks: Sequence[datetime]
    looked_until: datetime


_LOCK = "select pg_try_advisory_xact_lock(hashtextextended('mercato.schedules ' || $1, 0)), now()"
_EACH_TENANT = """
    select tenants.id, tenants.timezone, schedules.looked_until
    from mercato.tenants left join mercato.schedules on schedules.tenant_id = tenants.id and schedules.name = $1
    where tenants.removed_at is null and not coalesce(schedules.paused, false)
        and not exists (select from mercato.schedules as whole
            where whole.name = $1 and whole.tenant_id = 0 and whole.paused)
        and not exists (select from unnest($2::text[]) as wanted (integration) where not exists (
            select from mercato.connections where connections.tenant_id = tenants.id
                and connections.integration = wanted.integration))
        and (cardinality($3::text[]) = 0 or exists (select from mercato.grants
            where grants.tenant_id = tenants.id and grants.category = any($3::text[])))
    order by tenants.id
"""
_ONCE = """
    select 0::bigint, 'UTC', looked_until from (values (1)) as one
    left join mercato.schedules on schedules.name = $1 and schedules.tenant_id = 0
    where not coalesce(schedules.paused, false)
"""
_STORE = """
    with due as (
        select tenant_id, tick from unnest($1::bigint[], $2::timestamptz[]) as given (tenant_id, tick)
        where not exists (
            select from mercato.ticks where ticks.name = $3 and ticks.tick = given.tick
                and ticks.tenant_id = given.tenant_id
        )
    ), stored as (
        insert into mercato.jobs (tenant_id, name, version, payload, priority, state, attempts, key)
        select tenant_id, $3, $4, cast($5 as jsonb), $6, 'queued', $7, 'tick ' || to_char(tick at time zone 'UTC',
            'YYYY-MM-DD"T"HH24:MI"Z"') from due
        on conflict do nothing
        returning id, tenant_id, key
    ), noted as (
        insert into mercato.ticks (name, tenant_id, tick, job_id)
        select $3, due.tenant_id, due.tick, stored.id from due join stored
            on stored.tenant_id = due.tenant_id
            and stored.key = 'tick ' || to_char(due.tick at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"')
        returning job_id
    )
    select count(*), case when count(*) > 0 then pg_notify('mercato_jobs', '') end from noted
"""
_LOOKED = """
    insert into mercato.schedules (name, tenant_id, looked_until)
    select $1, tenant_id, looked_until from unnest($2::bigint[], $3::timestamptz[]) as given (tenant_id, looked_until)
    on conflict (name, tenant_id) do update set looked_until = excluded.looked_until
"""


class Turn:
    """One look at one schedule, in a transaction that keeps other workers from the same."""

    def __init__(self, connection: Any, name: str, now: datetime) -> None:
        self._connection = connection
        self._name = name
        self.now = now
        """The database's time."""

    async def own_clock(self) -> list[Clocked]:
        """Return the deployment's clock, if the schedule is not paused."""
        return [Clocked(*row) for row in await self._connection.fetch(_ONCE, self._name)]

    async def tenant_clocks(self, *, requires: Sequence[str], categories: Sequence[str]) -> list[Clocked]:
        """Return the clocks of tenants that have connected all that is required, and have one of the categories on.

        Those for whom the schedule is paused are not among them. With no categories every tenant has them on.
        """
        rows = await self._connection.fetch(_EACH_TENANT, self._name, list(requires), list(categories))
        return [Clocked(*row) for row in rows]

    async def store(self, found: Sequence[Due], new: NewJob) -> int:
        """Store a run for each tick that has none, and how far was looked; return how many."""
        ticks = [(one.tenant_id, tick) for one in found for tick in one.ticks]
        stored = 0
        if ticks:
            columns = [tenant_id for tenant_id, _ in ticks], [tick for _, tick in ticks]
            values = (*columns, new.name, new.version, new.payload, new.priority, new.attempts)
            stored = (await self._connection.fetch(_STORE, *values))[0][0]
        looked = [one.tenant_id for one in found], [one.looked_until for one in found]
        await self._connection.execute(_LOOKED, self._name, *looked)
        return int(stored)


async def read_clocks(
    pool: SystemPool, name: str, *, requires: Sequence[str], categories: Sequence[str]
) -> list[Clocked]:
    """Return the tenants' clocks that a schedule goes by now, as `Turn.tenant_clocks` does."""
    return [Clocked(*row) for row in await pool.fetch(_EACH_TENANT, name, list(requires), list(categories))]


async def take_turn(pool: SystemPool, name: str, work: Any) -> int:
    """Look at a schedule, if no other worker does just now; return how many runs were stored."""
    async with pool.transaction() as connection:
        free, now = await connection.fetchrow(_LOCK, name)
        return int(await work(Turn(connection, name, now))) if free else 0


_PAUSE = """
    insert into mercato.schedules (name, tenant_id, looked_until, paused) values ($1, $2, now(), true)
    on conflict (name, tenant_id) do update set paused = true where not schedules.paused returning id
"""
_RESUME = "update mercato.schedules set paused = false where name = $1 and tenant_id = $2 and paused returning id"
_PAUSED = """
    select schedules.name, coalesce(slug, '') from mercato.schedules left join mercato.tenants on tenants.id = tenant_id
    where paused order by 1, 2
"""


async def pause(pool: SystemPool, name: str, tenant_id: int, *, paused: bool) -> bool:
    """Pause a schedule, or let it go on; for a tenant, or (tenant 0) for all. Return whether that changed anything.

    What was missed is caught up with, by the schedule's rule.
    """
    return bool(await pool.fetch(_PAUSE if paused else _RESUME, name, tenant_id))


@dataclass(slots=True)
class Paused:
    """For whom a schedule is paused: for all, and for tenants, by their slugs."""

    for_all: bool = False
    tenants: list[str] = field(default_factory=list)


async def read_paused(pool: SystemPool) -> dict[str, Paused]:
    """Return the schedules that are paused for anybody, by the names of their jobs."""
    found: dict[str, Paused] = {}
    for name, slug in await pool.fetch(_PAUSED):
        paused = found.setdefault(name, Paused())
        if slug:
            paused.tenants.append(slug)
        else:
            paused.for_all = True
    return found
