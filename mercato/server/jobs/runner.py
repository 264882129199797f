"""Runner: what happens to one row, from its claim to the word of what became of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy.exc import DBAPIError

from mercato.plugins.jobs import Job, Permanent, Retry
from mercato.server.jobs.batch import Batch
from mercato.server.jobs.limits import limits_of
from mercato.server.jobs.opening import Opening, Settled
from mercato.server.jobs.outages import is_outage_outside
from mercato.server.jobs.running import Run, Running
from mercato.server.metrics import Metrics
from mercato.tenancy import audit, circuits, ledger_work
from mercato.tenancy.ledger import State
from mercato.tools.errors import NotConnected, ToolError

log = structlog.stdlib.get_logger(__name__)

_OUTAGES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, DBAPIError)
_TELL_AGAIN_S = (0.2, 0.5, 1, 2)


Told = Callable[[ledger_work.Claimed, State], Awaitable[None]]
"""Hears what became of a run, once that is written down."""


class Runner:
    """Runs rows of the jobs that it knows, each at most once at a time."""

    def __init__(
        self,
        running: Running,
        jobs: Mapping[str, Job[..., Any]],
        opening: Opening,
        metrics: Metrics,
        told: Told | None = None,
    ) -> None:
        self._running = running
        self._pool, self._worker = running.pool, running.worker
        self._jobs = jobs
        self._opening = opening
        self._metrics = metrics
        self._told = told
        self.limits = limits_of(jobs.values())
        self._claims: Batch[int, ledger_work.Claimed | None] = Batch(self._claim)
        self._ends: Batch[ledger_work.Done, bool | None] = Batch(self._finish)

    async def handle(self, job_id: int) -> None:
        """Run the row of this id, if it may still be run."""
        claiming = asyncio.ensure_future(self._claims.ask(job_id))
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await self._give_back(claiming)
            raise
        except _OUTAGES as error:
            log.warning("a job could not be claimed, and is rung again", job_id=job_id, error=type(error).__name__)
            return
        if claimed is None:
            return
        run = Run(claimed)
        self._running.take(run)
        run.task = asyncio.create_task(self._run(run), name=f"mercato-job-{claimed.id}")
        try:
            await asyncio.wait({run.task})
        except asyncio.CancelledError:
            run.end("stopped")
            await asyncio.wait({run.task})
            raise
        finally:
            if run.why != "stopped":  # those are given back together
                self._running.leave(run)

    async def _give_back(self, claiming: asyncio.Future[ledger_work.Claimed | None]) -> None:
        """Give a row back whose claim was under way when this worker had to end."""
        with suppress(*_OUTAGES):
            if claimed := await claiming:
                await ledger_work.release(self._pool, [claimed.id], self._worker)

    async def _claim(self, ids: Sequence[int]) -> list[ledger_work.Claimed | None]:
        claimed = {one.id: one for one in await ledger_work.claim(self._pool, ids, self._worker, self.limits)}
        return [claimed.pop(job_id, None) for job_id in ids]

    async def _finish(self, ended: Sequence[ledger_work.Done]) -> list[bool | None]:
        """Write many ends down at once; None for one that the database cannot hold, which costs the others nothing."""
        try:
            ours = await ledger_work.finish(self._pool, ended, self._worker)
        except asyncpg.DataError:
            if len(ended) == 1:
                return [None]
            return [(await self._finish([one]))[0] for one in ended]
        return [one.id in ours for one in ended]

    async def _run(self, run: Run) -> None:
        """Work, and count it."""
        name, began = run.claimed.name, time.perf_counter()
        self._metrics.job_began(name, run.claimed.waited_s)
        state = await self._worked(run)
        self._metrics.job_ended(name, state or run.why or "lost", time.perf_counter() - began)
        if state is not None and self._told is not None:
            await self._told(run.claimed, state)

    async def _worked(self, run: Run) -> State | None:
        """Work, and write down what became of it: every way out of the function ends in one of these.

        Returns what the run is now, or None where it is not this worker's any more.
        """
        claimed = run.claimed
        try:
            return await self._work(run)
        except Settled as settled:
            return settled.state
        except asyncio.CancelledError:
            if run.why is None:
                return await self._failed(run, RuntimeError("it was cancelled, and nobody had asked for that"))
            return await self._ended(run)
        except ledger_work.LeaseLost:
            log.warning("a job was taken from this worker: its writes were undone", **_named(claimed))
        except SystemExit as error:
            return await self._failed(run, RuntimeError(f"it tried to end the process: {error}"))
        except Exception as error:  # noqa: BLE001  # the edge: whatever a job raises is its failure
            # One that was asked to end may make another error of that, or the database does.
            return await (self._failed(run, error) if run.why is None else self._ended(run))
        return None

    async def _ended(self, run: Run) -> State | None:
        """Write down that a run was cancelled; one that was stopped or lost is left to others."""
        return await self._fail(run, "cancelled", "cancelled", None) if run.why == "cancelled" else None

    async def _work(self, run: Run) -> State | None:
        claimed, job = run.claimed, self._jobs[run.claimed.name]
        arguments = job.load(claimed.version, claimed.payload)
        async with self._opening.open(job, claimed) as ctx:
            run.meter = ctx._meter
            async with asyncio.timeout(job.timeout_s) as run.clock:
                result = _dumped(job, await job.function(ctx, **arguments))
            run.is_closing = True
            done = ledger_work.Done(claimed.id, claimed.attempt, result, ctx._meter.cents)
            wrote = ctx._db is not None and ctx._db.is_writing
            if wrote:
                await ledger_work.finish_within(ctx.db, done, self._worker)
        state: State | None = "done" if wrote else await self._tell(claimed, done)
        if claimed.is_watched and job.talks_to is not None:
            with suppress(*_OUTAGES):  # the next success says it again
                await circuits.count_success(self._pool, claimed.tenant_id, job.talks_to, claimed.id)
        return state

    async def _tell(self, claimed: ledger_work.Claimed, done: ledger_work.Done) -> State | None:
        """Say that a run is done that wrote nothing; a database that is away gets some time to come back."""
        for wait_s in _TELL_AGAIN_S:
            try:
                is_ours = await self._ends.ask(done)
                if is_ours:
                    return "done"
                if is_ours is None:
                    raise Permanent("the result holds what the database cannot store")
                log.warning("a job was taken from this worker after it was done", **_named(claimed))
                return None
            except _OUTAGES:
                await asyncio.sleep(wait_s)
        log.error("a job is done, and the database does not take it down: it will run again", **_named(claimed))
        return None

    async def _failed(self, run: Run, error: Exception) -> State | None:
        claimed, job = run.claimed, self._jobs[run.claimed.name]
        kind, text = type(error).__name__, _text(error)
        if (wait_s := await self._outage(run, job.talks_to, error)) is not None:
            log.warning("a job waits for an integration", **_named(claimed), integration=job.talks_to, error=text)
            return await self._fail(run, text, kind, wait_s, counts=False)
        if isinstance(error, Retry):
            log.info("a job asks for another time", **_named(claimed), after_s=error.after_s, reason=text)
        else:
            known = isinstance(error, Permanent | ToolError)
            log.warning("a job failed", **_named(claimed), kind=kind, error=text, exc_info=None if known else error)
        return await self._fail(run, text, kind, _wait_s(job, claimed, error))

    async def _outage(self, run: Run, integration: str | None, error: Exception) -> float | None:
        """Count an outage of the integration; return for how long to put the run off where the circuit is open."""
        is_late = run.clock is not None and run.clock.expired()
        if integration is None or is_late or not is_outage_outside(error):
            return None
        with suppress(*_OUTAGES):
            return await circuits.count_outage(self._pool, run.claimed.tenant_id, integration, run.claimed.id)
        return None

    async def _fail(self, run: Run, text: str, kind: str, wait_s: float | None, *, counts: bool = True) -> State | None:
        claimed, spent = run.claimed, 0 if run.meter is None else run.meter.cents
        failed = ledger_work.Failed(claimed.id, claimed.attempt, text, kind, wait_s, spent, counts)
        with suppress(*_OUTAGES):  # the lease runs out then, and the run is taken back
            state = await ledger_work.fail(self._pool, failed, self._worker)
            if state == "dead":
                log.error("a job is dead", **_named(claimed), kind=failed.error_kind, error=failed.error)
            return state
        return None


def _wait_s(job: Job[..., Any], claimed: ledger_work.Claimed, error: Exception) -> float | None:
    if isinstance(error, Retry):
        return max(0.0, error.after_s)
    if isinstance(error, Permanent | NotConnected):
        return None
    return job.retries.wait_s(claimed.attempt, random.random())  # noqa: S311  # no secret: it only spreads


def _text(error: Exception) -> str:
    text = error.text() if isinstance(error, ToolError) else str(error)
    shown: str = audit.masked({"error": text})["error"]
    return shown or type(error).__name__


def _dumped(job: Job[..., Any], result: Any) -> str | None:
    if result is None:
        return None
    dumped = result.model_dump_json() if isinstance(result, BaseModel) else to_json(result).decode()
    if len(dumped) > job.largest_result_bytes:
        raise Permanent(f"the result has {len(dumped):,} bytes; {job.largest_result_bytes:,} are the most")
    if "\\u0000" in dumped:
        raise Permanent("the result contains a character that cannot be stored (NUL)")
    if not dumped.startswith("{"):
        raise Permanent(f"the job {job.name} must return a model, a dictionary or nothing")
    return dumped


def _named(claimed: ledger_work.Claimed) -> dict[str, Any]:
    return {
        "job": claimed.name,
        "job_id": claimed.id,
        "tenant_id": claimed.tenant_id,
        "attempt": claimed.attempt,
    }
