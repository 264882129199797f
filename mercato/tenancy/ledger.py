"""The ledger: a row for each run of a job, from before the commit that asked for it until it is purged.

A row is *queued*, *running*, *retrying* after a failure, or *waiting* for a person's answer; it ends as *done*, *dead*
(all attempts failed) or *cancelled*. What runs it is told a row's id and nothing else; whoever claims the row has it
for as long as it renews its lease. Every step is one statement that says which state it expects, so that what comes
late changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Field

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.rows import CORE_SCHEMA, CURRENT_TENANT, TenantOwned, identity, timestamp

State = Literal["queued", "running", "retrying", "waiting", "done", "dead", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "retrying", "waiting", "done", "dead", "cancelled")
ENDED: tuple[State, ...] = ("done", "dead", "cancelled")
CHANNEL, CANCEL = "mercato_jobs", "cancel"
"""Where workers are told that something may run, and the word there for one that is to end."""
_IS_WAITING = "state in ('queued', 'retrying')"
_IS_OPEN_TASK = f"task_id is not null and state not in {ENDED!r}"


class JobRun(TenantOwned, table=True):
    """One run of a job: for a tenant, or (tenant 0) for the deployment as a whole.

    There is no foreign key: a tenant's row is never deleted, and a check for each run would cost more than storing it.
    Ended rows are in none of the indexes that workers use, so that a long history costs the queue nothing.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        sa.CheckConstraint(f"state in {STATES!r}", name="state"),
        sa.CheckConstraint("(state = 'running') = (lease_until is not null)", name="lease"),
        sa.Index("ix_jobs_waiting", "tenant_id", "priority", "due_at", "id", postgresql_where=sa.text(_IS_WAITING)),
        sa.Index(
            "uq_jobs_key",
            "tenant_id",
            "name",
            "key",
            unique=True,
            postgresql_where=sa.text(f"key is not null and {_IS_WAITING}"),
        ),
        sa.Index("ix_jobs_running", "name", "tenant_id", postgresql_where=sa.text("state = 'running'")),
        sa.Index(None, "tenant_id", "id"),
        sa.Index("ix_jobs_finished_at", "finished_at", postgresql_where=sa.text(f"state in {ENDED!r}")),
        sa.Index("ix_jobs_dead", "name", postgresql_where=sa.text("state = 'dead'")),
        sa.Index("uq_jobs_task_id", "task_id", unique=True, postgresql_where=sa.text("task_id is not null")),
        sa.Index("ix_jobs_open_tasks", "tenant_id", postgresql_where=sa.text(_IS_OPEN_TASK)),
        {"schema": CORE_SCHEMA, "postgresql_with": {"fillfactor": 70}},
    )

    id: int = identity()
    name: str
    version: int
    payload: dict[str, Any] = Field(sa_type=JSONB)
    key: str | None = None
    priority: int = Field(sa_type=sa.SmallInteger)
    state: str
    attempt: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    attempts: int
    due_at: datetime = timestamp(now=True)
    rung_until: datetime | None = timestamp(nullable=True)
    lease_until: datetime | None = timestamp(nullable=True)
    worker: str | None = None
    cancel_asked: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    progress: dict[str, Any] | None = Field(default=None, sa_type=JSONB, nullable=True)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSONB, nullable=True)
    error: str | None = None
    error_kind: str | None = None
    cost_cents: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    created_at: datetime = timestamp(now=True)
    started_at: datetime | None = timestamp(nullable=True)
    finished_at: datetime | None = timestamp(nullable=True)
    task_id: UUID | None = None
    exchange: dict[str, Any] | None = Field(default=None, sa_type=JSONB, nullable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A run to be stored. `payload` is JSON; `priority` 0 goes before 1, and 1 before 2.

    `task_id` and `exchange` (JSON) belong to runs that a client of MCP follows: see `mercato.tenancy.tasks`.
    """

    name: str
    version: int
    payload: str
    attempts: int
    priority: int = 1
    key: str | None = None
    due_at: datetime | None = None
    task_id: UUID | None = None
    exchange: str | None = None


_ENQUEUE = """
    with put as (
        insert into mercato.jobs (
            tenant_id, name, version, payload, key, priority, state, attempts, due_at, task_id, exchange
        )
        values (
            {tenant}, :name, :version, cast(:payload as jsonb), :key, :priority, 'queued', :attempts,
            coalesce(:due_at, now()), :task_id, cast(:exchange as jsonb)
        )
        on conflict (tenant_id, name, key) where key is not null and state in ('queued', 'retrying')
        do nothing
        returning id
    )
    select id, pg_notify('mercato_jobs', '') from put
"""
_TYPES = (
    sa.bindparam("payload", type_=sa.String),
    sa.bindparam("key", type_=sa.String),
    sa.bindparam("due_at", type_=sa.DateTime(timezone=True)),
    sa.bindparam("task_id", type_=sa.Uuid),
    sa.bindparam("exchange", type_=sa.String),
)
_ENQUEUE_FOR_ALL = sa.text(_ENQUEUE.format(tenant="0")).bindparams(*_TYPES)
_ENQUEUE_HERE = sa.text(_ENQUEUE.format(tenant=CURRENT_TENANT)).bindparams(*_TYPES)
_WAITING = sa.text(
    "select id from mercato.jobs where tenant_id = "  # noqa: S608
    f"{CURRENT_TENANT} and name = :name and key = :key and state in ('queued', 'retrying')"
)


async def enqueue(db: TenantDatabase, new: NewJob) -> int:
    """Store a run in the transaction of `db`; return its id, or that of the one with the same key that waits."""
    connection = await db.session.connection()
    values = _values(new)
    while True:
        stored = (await connection.execute(_ENQUEUE_HERE, values)).first()
        if stored is None:  # it waits, or has just begun
            stored = (await connection.execute(_WAITING, {"name": new.name, "key": new.key})).first()
        if stored is not None:
            return int(stored[0])


async def enqueue_for_deployment(connection: AsyncConnection, new: NewJob) -> None:
    """Store a run of one of the deployment's own jobs, in a transaction of the system."""
    await connection.execute(_ENQUEUE_FOR_ALL, _values(new))


def _values(new: NewJob) -> dict[str, Any]:
    return {
        "name": new.name,
        "version": new.version,
        "payload": new.payload,
        "key": new.key,
        "priority": new.priority,
        "attempts": new.attempts,
        "due_at": new.due_at,
        "task_id": new.task_id,
        "exchange": new.exchange,
    }
