"""The deployment's own jobs: each a shallow function over one of `tenancy`, and safe to run twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from mercato.plugins.jobs import Backoff, Job, job
from mercato.plugins.schedules import Schedule
from mercato.server.jobs.deployment import DeploymentContext
from mercato.tenancy import job_purging
from mercato.tenancy.rows import utc_now

PLUGIN = "core"
JOBS_KEPT_DAYS, TICKS_KEPT_DAYS = 30, 60
_CALM = Backoff(attempts=5, base_s=30, factor=4, cap_s=3_600)


@job("core.purge_jobs", schedule=Schedule("17 3 * * *"), retries=_CALM, timeout_s=1_800, concurrency=1)
async def purge_jobs(ctx: DeploymentContext, days: int = JOBS_KEPT_DAYS) -> dict[str, int]:
    """Remove runs that ended long ago, and the ticks of schedules before them."""
    now = utc_now()
    runs = await job_purging.purge_runs(ctx.database.pool, now - timedelta(days=days))
    ticks = await job_purging.purge_ticks(ctx.database.pool, now - timedelta(days=max(days, TICKS_KEPT_DAYS)))
    return {"runs": runs, "ticks": ticks}


CORE_JOBS: Sequence[Job[..., Any]] = (purge_jobs,)
