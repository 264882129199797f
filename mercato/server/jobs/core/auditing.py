"""The job that keeps the audit as long as the deployment wants."""

from __future__ import annotations

from datetime import timedelta

from mercato.plugins.jobs import job
from mercato.plugins.schedules import Schedule
from mercato.server.jobs.core.alerting import notice
from mercato.server.jobs.core.purging import CALM
from mercato.server.jobs.deployment import DeploymentContext
from mercato.tenancy.alerts import observe
from mercato.tenancy.audit_retention import prune_all
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.rows import utc_now


@job("core.prune_audit", schedule=Schedule("47 3 * * *"), retries=CALM, timeout_s=3_600, concurrency=1)
async def prune_audit(ctx: DeploymentContext) -> dict[str, int]:
    """Remove audit entries that are kept no longer, and leave an anchor; a chain that does not hold stays whole."""
    runtime, days = ctx.runtime, ctx.runtime.settings.audit_kept_days
    if days is None:
        await observe(runtime.database, "audit", [], notice)
        return {"entries": 0}
    pruned = await prune_all(runtime.database, AuditSigner(runtime.ring), utc_now() - timedelta(days=days))
    await observe(runtime.database, "audit", pruned.broken, notice)
    return {"entries": pruned.entries, "broken": len(pruned.broken)}
