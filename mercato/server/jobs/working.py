"""A worker over a runtime: in `mercato serve`, in `mercato worker`, and in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mercato.plugins.jobs import Job
from mercato.server.jobs.arq_provider import ArqProvider
from mercato.server.jobs.core import CORE_JOBS, PLUGIN
from mercato.server.jobs.deployment import DeploymentOpening
from mercato.server.jobs.opening import TenantOpening
from mercato.server.jobs.provider import Provider
from mercato.server.jobs.service import JobService, worker_name
from mercato.server.runtime import Runtime
from mercato.tenancy import ledger_work


class _Openings:
    """Opens what a run needs: the deployment's own, or its tenant's."""

    def __init__(self, runtime: Runtime) -> None:
        self._tenants = TenantOpening(runtime.contexts, runtime.directory)
        self._deployment = DeploymentOpening(runtime.database)

    def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> Any:
        opening = self._deployment if job.name.startswith(f"{PLUGIN}.") else self._tenants
        return opening.open(job, claimed)


def every_job(runtime: Runtime) -> list[Job[..., Any]]:
    """Return the deployment's own jobs and those of all plugins that are loaded."""
    return [*CORE_JOBS, *(job for plugin in runtime.plugins.loaded.values() for job in plugin.jobs)]


def job_service(runtime: Runtime, provider: Provider, worker: str) -> JobService:
    """Return a service over a runtime; nothing is started yet."""
    return JobService(runtime.database.pool, provider, every_job(runtime), _Openings(runtime), worker)


@asynccontextmanager
async def working(
    runtime: Runtime, redis_url: str, slots: int, *, patience_s: float
) -> AsyncIterator[JobService | None]:
    """Work in the background for as long as the block lasts, on so many runs at once; with none, not at all.

    At the end nothing more is begun; what has not ended after `patience_s` is given back for another worker.
    """
    if slots < 1:
        yield None
        return
    worker = worker_name()
    service = job_service(runtime, ArqProvider(redis_url, worker, slots), worker)
    await service.start()
    try:
        yield service
    finally:
        await service.stop(patience_s)
