"""Runs of jobs as people see them: listed, counted, cancelled, run again.

Each takes a connection: a tenant's, whose rows row-level security picks, or the system's, which sees all; both name the
tenant they mean (`scope`), and `EVERYBODY` is for operators.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

import sqlalchemy as sa
import sqlalchemy.orm
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.ledger import CANCEL, CHANNEL, ENDED, JobRun, State

EVERYBODY: Literal["everybody"] = "everybody"
Scope = int | Literal["everybody"]
"""A tenant's id, 0 for the deployment's own runs, or everybody."""
LONGEST_LIST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, as it is shown."""

    id: int
    tenant_id: int
    name: str
    state: State
    payload: dict[str, Any]
    key: str | None
    priority: int
    attempt: int
    attempts: int
    due_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: str | None
    error_kind: str | None
    cost_cents: int
    cancel_asked: bool
    task_id: UUID | None = field(repr=False)
    """By which a client of MCP follows it: not to be shown to others."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How many runs of a job are in a state, and since when the oldest of them has been due."""

    name: str
    state: State
    runs: int
    oldest_due_at: datetime | None


COLUMNS = [col(getattr(JobRun, name)) for name in Run.__dataclass_fields__]


@asynccontextmanager
async def as_operator(database: Database) -> AsyncIterator[AsyncConnection]:
    """Open a connection that sees the runs of all tenants, and the deployment's own."""
    async with database.system() as session:
        yield await session.connection()


async def read_runs(
    connection: AsyncConnection,
    scope: Scope,
    *,
    states: Sequence[State] = (),
    name: str | None = None,
    before_id: int | None = None,
    limit: int = 25,
) -> list[Run]:
    """Return runs, the newest first."""
    statement = (
        sa.select(*COLUMNS).where(_within(scope)).order_by(col(JobRun.id).desc()).limit(min(limit, LONGEST_LIST))
    )
    if states:
        statement = statement.where(col(JobRun.state).in_(states))
    if name is not None:
        statement = statement.where(col(JobRun.name) == name)
    if before_id is not None:
        statement = statement.where(col(JobRun.id) < before_id)
    return [Run(**row._mapping) for row in await connection.execute(statement)]


async def read_run(connection: AsyncConnection, scope: Scope, run_id: int) -> Run:
    """Return one run. Raises `NotFound`."""
    found = (await connection.execute(sa.select(*COLUMNS).where(_within(scope), col(JobRun.id) == run_id))).first()
    if found is None:
        raise NotFound(f"There is no run {run_id}.")
    return Run(**found._mapping)


async def read_figures(connection: AsyncConnection, scope: Scope) -> list[Figures]:
    """Return how many runs there are, by job and state."""
    return [Figures(*row) for row in await connection.execute(select_figures().where(_within(scope)))]


def select_figures() -> sa.Select[*tuple[Any, ...]]:
    """Return the statement that counts runs, whoever they are for."""
    state, name = col(JobRun.state), col(JobRun.name)
    oldest = sa.func.min(sa.case((state.in_(("queued", "retrying")), col(JobRun.due_at))))
    return sa.select(name, state, sa.func.count(), oldest).group_by(name, state).order_by(name, state)


async def cancel(connection: AsyncConnection, scope: Scope, run_id: int) -> State:
    """End a run that has not ended; return what it is now. One that runs is told, and ends within seconds.

    Raises `NotFound`, and `InvalidValue` for one that has ended.
    """
    waiting = col(JobRun.state).in_(("queued", "retrying", "waiting"))
    statement = (
        sa.update(JobRun)
        .where(_within(scope), col(JobRun.id) == run_id, col(JobRun.state).not_in(ENDED))
        .values(
            state=sa.case((waiting, "cancelled"), else_=col(JobRun.state)),
            finished_at=sa.case((waiting, sa.func.now())),
            cancel_asked=sa.not_(waiting),
        )
        .returning(col(JobRun.state))
    )
    state: Any = (await connection.execute(statement)).scalar_one_or_none()
    if state is None:
        await _refuse(connection, scope, run_id, "has ended", "cancelled")
    if state == "running":
        await connection.execute(_CANCEL)
    return cast(State, state)


async def retry(connection: AsyncConnection, scope: Scope, run_id: int, attempts: int) -> None:
    """Let a run that is dead, cancelled or waits for another attempt run now, so many times at most.

    Raises `NotFound`, and `InvalidValue` for one that is done, runs or is queued, where another one with its key waits
    already, and for a task that has ended: its client has been told so.
    """
    other = sa.orm.aliased(JobRun)
    younger = sa.exists().where(
        col(other.id) != run_id,
        col(other.state).in_(("queued", "retrying")),
        col(other.name) == col(JobRun.name),
        col(other.key) == col(JobRun.key),
        col(other.tenant_id) == col(JobRun.tenant_id),
    )
    statement = (
        sa.update(JobRun)
        .where(_within(scope), col(JobRun.id) == run_id)
        .where(col(JobRun.state).in_(("dead", "cancelled", "retrying")), ~younger)
        .where(col(JobRun.task_id).is_(None) | (col(JobRun.state) == "retrying"))
        .values(
            state="queued",
            due_at=sa.func.now(),
            finished_at=None,
            rung_until=None,
            cancel_asked=False,
            attempts=sa.case(
                (col(JobRun.state) == "retrying", col(JobRun.attempts)), else_=col(JobRun.attempt) + attempts
            ),
        )
        .returning(col(JobRun.id))
    )
    if (await connection.execute(statement)).first() is None:
        await _refuse_retry(connection, scope, run_id)
    await connection.execute(RING)


async def replay(connection: AsyncConnection, scope: Scope, run_id: int, attempts: int) -> int:
    """Store a new run with the payload of one that has ended, to be tried so many times at most; return its id.

    Raises `NotFound` or `InvalidValue`.
    """
    run = await read_run(connection, scope, run_id)
    if run.state not in ENDED:
        raise InvalidValue(f"Run {run_id} has not ended: it is {run.state}.")
    columns = ["tenant_id", "name", "version", "payload", "priority"]
    own = (col(getattr(JobRun, name)) for name in columns)
    copied = sa.select(*own, sa.literal(attempts), sa.literal("queued")).where(col(JobRun.id) == run_id)
    stored = sa.insert(JobRun).from_select([*columns, "attempts", "state"], copied).returning(col(JobRun.id))
    new_id = int((await connection.execute(stored)).scalar_one())
    await connection.execute(RING)
    return new_id


_CANCEL = sa.text(f"select pg_notify('{CHANNEL}', '{CANCEL}')")
RING = sa.text("select pg_notify('mercato_jobs', '')")
"""Tells workers, after the commit, that something may run."""


async def _refuse(connection: AsyncConnection, scope: Scope, run_id: int, why: str, what: str) -> Any:
    run = await read_run(connection, scope, run_id)
    raise InvalidValue(f"Run {run_id} is {run.state}: what {why} cannot be {what}.")


_TASK = sa.select(col(JobRun.task_id))


async def _refuse_retry(connection: AsyncConnection, scope: Scope, run_id: int) -> None:
    """Say which of the reasons it was."""
    run = await read_run(connection, scope, run_id)
    if run.state not in ("dead", "cancelled", "retrying"):
        why = "only what is dead, cancelled or waits for another attempt can be retried."
    elif run.state != "retrying" and await connection.scalar(_TASK.where(col(JobRun.id) == run_id)) is not None:
        why = "it is a task, and its client was told how it ended, so it cannot be retried."
    else:
        why = "another run with its key waits already, so it cannot be retried."
    raise InvalidValue(f"Run {run_id} is {run.state}: {why}")


def _within(scope: Scope) -> sa.ColumnElement[bool]:
    if scope == EVERYBODY:
        return sa.true()
    return col(JobRun.tenant_id) == scope
