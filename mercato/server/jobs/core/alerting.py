"""Jobs that tell of alerts."""

from __future__ import annotations

from datetime import timedelta

from mercato.plugins.jobs import PRIORITIES, Backoff, job
from mercato.plugins.schedules import Schedule
from mercato.server.alert_notices import log_notice, post_notice
from mercato.server.jobs.core.purging import CALM
from mercato.server.jobs.deployment import DeploymentContext
from mercato.tenancy import alerts
from mercato.tenancy.alerts import Word
from mercato.tenancy.errors import NotFound
from mercato.tenancy.ledger import NewJob
from mercato.tenancy.rows import utc_now

REPEATED_AFTER = timedelta(minutes=30)
KEPT_DAYS = 90
_STUBBORN = Backoff(attempts=10, base_s=5, factor=3, cap_s=3_600)


@job("core.send_alert", priority="high", retries=_STUBBORN, timeout_s=30)
async def send_alert(ctx: DeploymentContext, alert_id: int, word: Word, number: int) -> dict[str, bool]:
    """Tell of an alert: the log, and the webhook where there is one."""
    try:
        alert = await alerts.read_alert(ctx.runtime.database, alert_id)
    except NotFound:  # it was purged meanwhile
        return {"posted": False}
    if ctx.attempt == 1:
        log_notice(alert, word)
    return {"posted": await post_notice(ctx.runtime, alert, word, number)}


def notice(alert_id: int, word: Word, number: int) -> NewJob:
    """Return the run that tells of an alert."""
    return NewJob(
        name=send_alert.name,
        version=send_alert.version,
        payload=send_alert.dump({"alert_id": alert_id, "word": word, "number": number}),
        attempts=send_alert.retries.attempts,
        priority=PRIORITIES[send_alert.priority],
    )


@job("core.repeat_alerts", schedule=Schedule("*/5 * * * *"), retries=Backoff(attempts=1), concurrency=1)
async def repeat_alerts(ctx: DeploymentContext) -> dict[str, int]:
    """Tell again of critical alerts that are half an hour old and not resolved."""
    return {"repeated": await alerts.repeat(ctx.runtime.database, REPEATED_AFTER, notice)}


@job("core.purge_alerts", schedule=Schedule("37 3 * * *"), retries=CALM, concurrency=1)
async def purge_alerts(ctx: DeploymentContext) -> dict[str, int]:
    """Remove alerts that were resolved long ago."""
    before = utc_now() - timedelta(days=KEPT_DAYS)
    return {"alerts": await alerts.purge_alerts(ctx.runtime.database, before)}
