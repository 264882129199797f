"""Jobs that look whether everything is well, and raise alerts where it is not."""

from __future__ import annotations

from dataclasses import asdict

from mercato.plugins.jobs import Backoff, job
from mercato.plugins.schedules import Schedule
from mercato.server.health import probe
from mercato.server.health_causes import causes_of
from mercato.server.jobs.core.alerting import notice
from mercato.server.jobs.core.purging import CALM
from mercato.server.jobs.deployment import DeploymentContext
from mercato.server.jobs.limits import limits_of
from mercato.tenancy.alerts import observe
from mercato.tenancy.credential_check import check_all
from mercato.tenancy.queue_check import check_circuits, check_queue
from mercato.tenancy.rows import utc_now


@job("core.check_health", priority="high", schedule=Schedule("* * * * *"), retries=Backoff(attempts=1), concurrency=1)
async def check_health(ctx: DeploymentContext) -> dict[str, int]:
    """Probe the database, Redis, the queue and the circuits."""
    database, found = ctx.runtime.database, []
    found += [await observe(database, "health", causes_of(await probe(database, ctx.runtime.redis)), notice)]
    names, limits = [job.name for job in ctx.jobs], limits_of(ctx.jobs).values()
    found += [await observe(database, "queue", await check_queue(database, names, limits), notice)]
    found += [await observe(database, "circuit", await check_circuits(database), notice)]
    return {"raised": sum(one.raised for one in found), "resolved": sum(one.resolved for one in found)}


@job("core.check_credentials", schedule=Schedule("7 6 * * *"), retries=CALM, timeout_s=1_800, concurrency=1)
async def check_credentials(ctx: DeploymentContext) -> dict[str, int]:
    """Look which tenants have credentials that cannot be read, or that end soon."""
    database, ring = ctx.runtime.database, ctx.runtime.ring
    return asdict(await observe(database, "credential", await check_all(database, ring, utc_now()), notice))
