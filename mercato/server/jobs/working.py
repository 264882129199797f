"""A worker over a runtime: in `mercato serve`, in `mercato worker`, and in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mercato.plugins.jobs import Job
from mercato.server.changes import Change
from mercato.server.jobs.arq_provider import ArqProvider
from mercato.server.jobs.core import CORE_JOBS
from mercato.server.jobs.deployment import PREFIX, DeploymentOpening
from mercato.server.jobs.opening import TenantOpening
from mercato.server.jobs.provider import Provider
from mercato.server.jobs.service import JobService, worker_name
from mercato.server.mcp.tasks.run_tool import RUN_TOOL, Parts, ToolOpening
from mercato.server.runtime import Runtime
from mercato.tenancy import ledger_work
from mercato.tenancy.ledger import State


class _Openings:
    """Opens what a run needs: the deployment's own, the tool's, or its tenant's."""

    def __init__(self, runtime: Runtime, worker: str) -> None:
        self._tenants = TenantOpening(runtime.contexts, runtime.directory)
        self._deployment = DeploymentOpening(runtime, every_job(runtime))
        self._tools = ToolOpening(
            Parts(
                database=runtime.database,
                ring=runtime.ring,
                changes=runtime.changes,
                directory=runtime.directory,
                catalog=runtime.catalog,
                contexts=runtime.contexts,
                guard=runtime.guard,
            ),
            worker,
        )

    def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> Any:
        if job is RUN_TOOL:
            return self._tools.open(job, claimed)
        opening = self._deployment if job.name.startswith(PREFIX) else self._tenants
        return opening.open(job, claimed)


def every_job(runtime: Runtime) -> list[Job[..., Any]]:
    """Return the deployment's own jobs and those of all plugins that are loaded."""
    return [*CORE_JOBS, RUN_TOOL, *(job for plugin in runtime.plugins.loaded.values() for job in plugin.jobs)]


def job_service(runtime: Runtime, provider: Provider, worker: str) -> JobService:
    """Return a service over a runtime; nothing is started yet."""

    async def told(claimed: ledger_work.Claimed, state: State) -> None:
        if claimed.task_id is not None:
            await runtime.changes.publish(Change("task", claimed.tenant_id, claimed.task_id.hex))

    openings = _Openings(runtime, worker)
    return JobService(runtime.database.pool, provider, every_job(runtime), openings, worker, runtime.metrics, told)


@asynccontextmanager
async def working(runtime: Runtime, slots: int, *, patience_s: float) -> AsyncIterator[JobService | None]:
    """Work in the background for as long as the block lasts, on so many runs at once; with none, not at all.

    At the end nothing more is begun; what has not ended after `patience_s` is given back for another worker.
    """
    if slots < 1:
        yield None
        return
    worker = worker_name()
    service = job_service(runtime, ArqProvider(runtime.redis_url, worker, slots), worker)
    await service.start()
    runtime.worker = service
    try:
        yield service
    finally:
        runtime.worker = None
        await service.stop(patience_s)
