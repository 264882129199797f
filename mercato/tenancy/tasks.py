"""Tasks: runs of the ledger that a client of MCP follows, by an id that nobody can guess.

What is asked and answered while one runs is its `exchange`. A run that asks leaves its worker and waits, for as long as
the person takes; with the last answer it is queued again, and its function runs from the top.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col, select

from mercato.tenancy import job_runs
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.ledger import ENDED, JobRun, State
from mercato.tenancy.rows import utc_now
from mercato.tenancy.system_pool import SystemPool

RUN_TOOL = "mcp.run_tool"
"""The job behind every task, which is the server's own."""
KEPT = timedelta(days=7)
"""How long a task can be asked for at least, from its beginning."""
Answer = str | None
"""What a person filled in, sealed by whoever stores it; None where they declined."""


class Question(NamedTuple):
    """What the person is asked: a sentence, and the JSON Schema of the form."""

    message: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What passes between a task and its client. `owner` is the credential that it belongs to."""

    owner: str
    can_ask: bool
    begun_at: datetime
    changed_at: datetime
    questions: Mapping[str, Question] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @classmethod
    def begin(cls, owner: str, *, can_ask: bool, answers: Mapping[str, Answer] | None = None) -> Self:
        """Return the exchange of a task that begins now."""
        now = utc_now()
        return cls(owner=owner, can_ask=can_ask, begun_at=now, changed_at=now, answers=answers or {})

    def with_questions(self, questions: Mapping[str, Question]) -> Exchange:
        """Return it as it is once these are asked."""
        return replace(self, changed_at=utc_now(), questions=questions)

    def with_answers(self, answers: Mapping[str, Answer]) -> Exchange:
        """Return it as it is once these were given: they are asked no more."""
        left = {key: asked for key, asked in self.questions.items() if key not in answers}
        return replace(self, changed_at=utc_now(), questions=left, answers={**self.answers, **answers})

    def dump(self) -> str:
        """Return it as it is stored."""
        times = {"begun_at": self.begun_at.isoformat(), "changed_at": self.changed_at.isoformat()}
        said = {"owner": self.owner, "can_ask": self.can_ask, "questions": self.questions, "answers": self.answers}
        return json.dumps({**said, **times})

    @classmethod
    def load(cls, stored: Mapping[str, Any] | None) -> Exchange:
        """Return what was stored; of a run that nobody follows, one in which nothing can be asked."""
        if stored is None:
            return cls.begin("", can_ask=False)
        times = {name: datetime.fromisoformat(stored[name]) for name in ("begun_at", "changed_at")}
        questions = {key: Question(*asked) for key, asked in stored["questions"].items()}
        return cls(**{**stored, **times, "questions": questions})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as its owner sees it. `result` is what the run returned, `error` why it failed."""

    id: UUID
    run_id: int
    tool: str
    state: State
    exchange: Exchange
    changed_at: datetime
    progress: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    error: str | None


_TOOL = col(JobRun.payload)["tool"].astext.label("tool")
_SHOWN = ("state", "exchange", "started_at", "finished_at", "progress", "result", "error")
_READ = sa.select(col(JobRun.id), _TOOL, *(col(getattr(JobRun, name)) for name in _SHOWN)).where(
    col(JobRun.task_id) == sa.bindparam("task_id", type_=sa.Uuid)
)


async def read_task(db: TenantDatabase, task_id: UUID, owner: str) -> Task:
    """Return a task of this credential. Raises `NotFound`, for another's too."""
    found = await db.rows(_READ, {"task_id": task_id})
    task = _task(task_id, *found[0]) if found else None
    if task is None or task.exchange.owner != owner:
        raise NotFound("There is no such task.")
    return task


def _task(
    task_id: UUID,
    run_id: int,
    tool: str,
    state: State,
    stored: Mapping[str, Any],
    started_at: datetime | None,
    finished_at: datetime | None,
    progress: Mapping[str, Any] | None,
    result: Mapping[str, Any] | None,
    error: str | None,
) -> Task:
    exchange = Exchange.load(stored)
    told_at = None if progress is None else datetime.fromisoformat(progress["at"])
    moments = (exchange.changed_at, started_at, finished_at, told_at)
    return Task(
        id=task_id,
        run_id=run_id,
        tool=tool,
        state=state,
        exchange=exchange,
        changed_at=max(moment for moment in moments if moment is not None),
        progress=progress,
        result=result,
        error=error,
    )


_OWNED = sa.select(col(JobRun.task_id)).where(
    col(JobRun.task_id) == sa.func.any(sa.bindparam("task_ids", type_=ARRAY(sa.Uuid))),
    col(JobRun.exchange)["owner"].astext == sa.bindparam("owner", type_=sa.String),
)


async def owned(db: TenantDatabase, task_ids: Collection[UUID], owner: str) -> set[UUID]:
    """Return which of these tasks belong to a credential."""
    return {row[0] for row in await db.rows(_OWNED, {"task_ids": list(task_ids), "owner": owner})}


_LOCK = sa.text("select pg_advisory_xact_lock(hashtextextended('mercato.tasks ' || :tenant_id, 0))")
_OPEN = sa.select(
    sa.func.count(), sa.func.count().filter(col(JobRun.exchange)["owner"].astext == sa.bindparam("owner"))
).where(col(JobRun.task_id).is_not(None), col(JobRun.state).not_in(ENDED))


async def count_open(db: TenantDatabase, owner: str) -> tuple[int, int]:
    """Return how many tasks of the tenant have not ended, and how many of these are a credential's.

    Nobody else begins one in this tenant until the transaction ends.
    """
    connection = await db.session.connection()
    await connection.execute(_LOCK, {"tenant_id": str(db.tenant_id)})
    every, own = (await connection.execute(_OPEN, {"owner": owner})).one()
    return every, own


async def answer(db: TenantDatabase, task_id: UUID, owner: str, answers: Mapping[str, Answer]) -> bool:
    """Take answers to what a task asks; return whether it goes on now. What is not asked is left out.

    Raises `NotFound`.
    """
    row = (await db.session.exec(select(JobRun).where(JobRun.task_id == task_id).with_for_update())).first()
    exchange = Exchange.load(None if row is None else row.exchange)
    if row is None or exchange.owner != owner:
        raise NotFound("There is no such task.")
    given = {key: given for key, given in answers.items() if key in exchange.questions}
    if row.state != "waiting" or not given:
        return False
    after = exchange.with_answers(given)
    row.exchange = json.loads(after.dump())
    if not after.questions:
        row.state, row.due_at, row.rung_until = "queued", utc_now(), None
        await db.session.flush()
        await (await db.session.connection()).execute(job_runs.RING)
    return not after.questions


async def cancel(db: TenantDatabase, task: Task) -> State:
    """End a task; return what it is now. One that runs is told, and ends within seconds; one that has ended stays."""
    connection = await db.session.connection()
    try:
        return await job_runs.cancel(connection, db.tenant_id, task.run_id)
    except InvalidValue:
        return (await read_task(db, task.id, task.exchange.owner)).state


_PARK = """
    update mercato.jobs set
        state = case when cancel_asked then 'cancelled' else 'waiting' end,
        finished_at = case when cancel_asked then now() end,
        exchange = cast($4::text as jsonb), attempt = attempt - 1, cost_cents = cost_cents + $5,
        lease_until = null, worker = null, rung_until = null, cancel_asked = false
    where id = $1 and attempt = $2 and state = 'running' and worker = $3
    returning state
"""


async def park(
    pool: SystemPool, run_id: int, attempt: int, worker: str, exchange: Exchange, cost_cents: int
) -> State | None:
    """Let a run wait for answers, without an attempt being counted; return what it is now.

    None where it was not this worker's any more.
    """
    rows = await pool.fetch(_PARK, run_id, attempt, worker, exchange.dump(), cost_cents)
    return rows[0][0] if rows else None


async def end_forgotten(pool: SystemPool, before: datetime) -> int:
    """Cancel tasks from before a time that wait for an answer; return how many."""
    return len(await pool.fetch(_END_FORGOTTEN, before))


# It says twice that the state is none that has ended: the index of open tasks is found by those words.
_END_FORGOTTEN = """
    update mercato.jobs set state = 'cancelled', finished_at = now()
    where task_id is not null and state not in ('done', 'dead', 'cancelled') and state = 'waiting' and created_at < $1
    returning id
"""
