"""Runs: what the tenant's jobs did, do and wait for, and the tools that run one again or end it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from mercato import Cursor, Detail, Limit, ToolContext, ToolError, admin, decode_cursor, encode_cursor, utc_now
from mercato.plugins.system.category import system

_RUNS, _QUEUES = "jobs", "job_queues"
_CONCISE_ERROR = 300
_PENDING = ("queued", "retrying")
JobName = Annotated[str | None, Field(max_length=120, description="Only this job, as `list_job_events` names it.")]
RunId = Annotated[int, Field(ge=1, description="`id` of a run.")]


class JobQueue(BaseModel):
    """The runs of one job, by state; `waiting` is for a person's answer. `oldest_due_at` is of those that are queued or
    retrying and due; null where none is. `paused`: its schedule, for this tenant.
    """

    job: str
    queued: int = 0
    running: int = 0
    retrying: int = 0
    waiting: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0
    oldest_due_at: datetime | None = None
    paused: bool = False


class JobQueueStatus(BaseModel):
    """A page of queues, by job; the totals are of all. `total_pending` counts queued and retrying. Runs that ended
    long ago are not kept, nor counted.
    """

    queues: list[JobQueue]
    total_pending: int
    total_running: int
    total_dead: int
    total_count: int
    next_cursor: str | None


class JobRun(BaseModel):
    """A run. `dead` is one whose attempts all failed; `waits_for` is an outside service that does not answer. Times are
    UTC. `full` adds payload and result, secrets masked.
    """

    id: int
    job: str
    state: admin.State
    attempt: int
    attempts: int
    key: str | None
    created_at: datetime
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_asked: bool
    waits_for: str | None
    progress: dict[str, Any] | None
    error: str | None
    error_kind: str | None
    cost_cents: int
    payload: dict[str, Any] | None
    result: dict[str, Any] | None


class JobRuns(BaseModel):
    """A page of runs, newest first."""

    jobs: list[JobRun]
    total_count: int
    next_cursor: str | None


class JobChange(BaseModel):
    """The run as it is now; `changed` is false where there was nothing to do."""

    id: int
    job: str
    state: admin.State
    changed: bool
    message: str


@system.tool(read_only=True)
async def get_job_queue_status(
    ctx: ToolContext, job: JobName = None, cursor: Cursor = None, limit: Limit = 25
) -> JobQueueStatus:
    """Count the runs of background jobs by job and state, to see what waits, runs or is dead. Runs: `list_jobs`."""
    queues = await _queues(ctx)
    if job is not None:
        if job not in queues:
            admin.check_job(ctx, job, "job")
        queues = {job: queues.get(job, JobQueue(job=job))}
    every = [queues[name] for name in sorted(queues)]
    after = "" if cursor is None else decode_cursor(cursor, _QUEUES, (str,))[0]
    left = [queue for queue in every if queue.job > after]
    return JobQueueStatus(
        queues=left[:limit],
        total_pending=sum(queue.queued + queue.retrying for queue in every),
        total_running=sum(queue.running for queue in every),
        total_dead=sum(queue.dead for queue in every),
        total_count=len(every),
        next_cursor=encode_cursor((left[limit - 1].job,), _QUEUES) if len(left) > limit else None,
    )


@system.tool(read_only=True, admin=True)
async def list_jobs(
    ctx: ToolContext,
    state: Annotated[admin.State | None, Field(description="Only runs in this state.")] = None,
    job: JobName = None,
    run_id: Annotated[int | None, Field(ge=1, description="Only this run.")] = None,
    detail: Detail = "concise",
    cursor: Cursor = None,
    limit: Limit = 10,
) -> JobRuns:
    """List runs of background jobs, newest first; `state: dead` shows what failed and waits for a person.

    For counts use `get_job_queue_status`; to run one again `retry_job`, to end one `cancel_job`.
    """
    before_id = None if cursor is None else decode_cursor(cursor, _RUNS, (int,))[0]
    page = await admin.list_runs(ctx, state=state, job=job, run_id=run_id, before_id=before_id, limit=limit)
    if job is not None and not page.total_count:
        admin.check_job(ctx, job, "job")
    if run_id is not None and state is None and job is None and not page.total_count:
        raise ToolError(f"There is no run {run_id}.", field="run_id", next_step="Leave `run_id` out to see all.")
    outages = await admin.read_outages(ctx) if any(run.state in _PENDING for run in page.items) else {}
    return JobRuns(
        jobs=[_shown(run, outages, full=detail == "full") for run in page.items],
        total_count=page.total_count,
        next_cursor=encode_cursor((page.items[-1].id,), _RUNS) if page.more else None,
    )


@system.tool(read_only=False, idempotent=True, admin=True)
async def retry_job(ctx: ToolContext, run_id: RunId) -> JobChange:
    """Run a background job again, now and with new attempts, that is dead, cancelled or waits to be retried.

    May be repeated: one that is queued, runs or is done is left alone. `list_jobs` has the runs.
    """
    run, changed = await admin.retry_run(ctx, run_id)
    return _change(run, changed, "is queued again")


@system.tool(read_only=False, idempotent=True, admin=True)
async def cancel_job(ctx: ToolContext, run_id: RunId) -> JobChange:
    """End a run of a background job: at once where it waits, within seconds where it runs; its writes are undone.

    May be repeated: one that has ended is left alone. `retry_job` runs it again after all.
    """
    run, changed = await admin.cancel_run(ctx, run_id)
    return _change(run, changed, "is cancelled" if run.state == "cancelled" else "was told to end")


async def _queues(ctx: ToolContext) -> dict[str, JobQueue]:
    """Return the queue of each job that has runs, or whose schedule is paused."""
    queues: dict[str, JobQueue] = {}
    for one in await admin.read_figures(ctx):
        queue = queues.setdefault(one.name, JobQueue(job=one.name))
        setattr(queue, one.state, one.runs)
        due = [time for time in (queue.oldest_due_at, one.oldest_due_at) if time is not None]
        oldest = min(due, default=None)
        queue.oldest_due_at = None if oldest is None or oldest > utc_now() else oldest
    for name in await admin.read_paused(ctx):
        queues.setdefault(name, JobQueue(job=name)).paused = True
    return queues


def _shown(run: admin.Run, outages: Mapping[str, tuple[str, datetime]], *, full: bool) -> JobRun:
    shown = {name: getattr(run, name) for name in JobRun.model_fields if name not in {"job", "waits_for"}}
    shown["waits_for"] = _waits_for(*outages[run.name]) if run.state in _PENDING and run.name in outages else None
    if not full:
        error = run.error and run.error[:_CONCISE_ERROR]
        shown |= {"payload": None, "result": None, "error": error}
    return JobRun(job=run.name, **shown)


def _waits_for(integration: str, until: datetime) -> str:
    return f"{integration} until {until:%H:%M} UTC" if until > utc_now() else f"{integration}, which is tried again now"


def _change(run: admin.Run, changed: bool, now: str) -> JobChange:
    left = "was told to end" if run.state == "running" and run.cancel_asked else f"is {run.state}"
    text = f"Run {run.id} {now}." if changed else f"Run {run.id} {left}: there was nothing to do."
    return JobChange(id=run.id, job=run.name, state=run.state, changed=changed, message=text)
