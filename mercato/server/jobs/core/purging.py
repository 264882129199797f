"""Jobs that remove what nobody asks for any more."""

from __future__ import annotations

from datetime import timedelta

from mercato.plugins.jobs import Backoff, job
from mercato.plugins.schedules import Schedule
from mercato.server.jobs.deployment import DeploymentContext
from mercato.tenancy import answers, assertions, codes, exports, job_purging, sessions, tasks
from mercato.tenancy.rows import utc_now

JOBS_KEPT_DAYS, TICKS_KEPT_DAYS = 30, 60
CALM = Backoff(attempts=5, base_s=30, factor=4, cap_s=3_600)


@job("core.purge_answers", schedule=Schedule("*/5 * * * *"), retries=Backoff(attempts=1), concurrency=1)
async def purge_answers(ctx: DeploymentContext) -> dict[str, int]:
    """Remove answers of writes that are kept no longer."""
    return {"answers": await answers.purge_answers(ctx.runtime.database, utc_now())}


@job("core.purge_sign_ins", schedule=Schedule("23 * * * *"), retries=CALM, concurrency=1)
async def purge_sign_ins(ctx: DeploymentContext) -> dict[str, int]:
    """Remove browser sessions, authorization codes, grants and used assertions that are over."""
    database, now = ctx.runtime.database, utc_now()
    ended = await codes.purge_codes(database, now)
    return {
        "sessions": await sessions.purge_sessions(database, now),
        "codes": ended.codes,
        "grants": ended.grants,
        "assertions": await assertions.purge_assertions(database, now),
    }


@job("core.purge_tasks", schedule=Schedule("43 * * * *"), retries=CALM, concurrency=1)
async def purge_tasks(ctx: DeploymentContext) -> dict[str, int]:
    """End tasks that nobody has answered for days, and remove exports that are past their time."""
    pool, now = ctx.runtime.database.pool, utc_now()
    return {
        "tasks": await tasks.end_forgotten(pool, now - tasks.KEPT),
        "export_parts": await exports.purge_exports(pool, now),
    }


@job("core.purge_jobs", schedule=Schedule("17 3 * * *"), retries=CALM, timeout_s=1_800, concurrency=1)
async def purge_jobs(ctx: DeploymentContext, days: int = JOBS_KEPT_DAYS) -> dict[str, int]:
    """Remove runs that ended long ago, and the ticks of schedules before them."""
    pool, now = ctx.runtime.database.pool, utc_now()
    runs = await job_purging.purge_runs(pool, now - timedelta(days=days))
    ticks = await job_purging.purge_ticks(pool, now - timedelta(days=max(days, TICKS_KEPT_DAYS)))
    return {"runs": runs, "ticks": ticks}
