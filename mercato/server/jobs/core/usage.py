"""The job that keeps the months of usage."""

from __future__ import annotations

from mercato.plugins.jobs import job
from mercato.plugins.schedules import Schedule
from mercato.server.jobs.core.purging import CALM
from mercato.server.jobs.deployment import DeploymentContext
from mercato.tenancy import usage_months
from mercato.tenancy.rows import utc_now


@job("core.rotate_usage", schedule=Schedule("27 3 * * *"), retries=CALM, concurrency=1)
async def rotate_usage(ctx: DeploymentContext) -> dict[str, int]:
    """Make the partition of the coming month of usage, and drop the months that are kept no longer."""
    database, today = ctx.runtime.database, utc_now().date()
    made = await usage_months.make_month(database, usage_months.months_after(today, 1))
    kept = ctx.runtime.settings.usage_kept_months
    dropped = 0
    if kept is not None:
        dropped = await usage_months.drop_months_before(database, usage_months.months_after(today, -kept))
    return {"made": int(made), "dropped": dropped}
