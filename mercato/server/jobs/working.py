"""A worker over a runtime: in `mercato serve`, in `mercato worker`, and in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mercato.plugins.jobs import Job
from mercato.plugins.manager import Plugins
from mercato.server.changes import Change
from mercato.server.jobs.arq_provider import ArqProvider
from mercato.server.jobs.core import CORE_JOBS
from mercato.server.jobs.deployment import PREFIX, DeploymentOpening
from mercato.server.jobs.opening import TenantOpening
from mercato.server.jobs.provider import Provider
from mercato.server.jobs.service import JobService, worker_name
from mercato.server.mcp.tasks.run_tool import RUN_TOOL, Parts, ToolOpening
from mercato.server.runtime import Runtime, open_database
from mercato.tenancy import ledger_work
from mercato.tenancy.database import Database
from mercato.tenancy.ledger import State


class _Openings:
    """Opens what a run needs: the deployment's own, the tool's, or its tenant's."""

    def __init__(self, runtime: Runtime, database: Database, worker: str) -> None:
        contexts = runtime.contexts.over(database)
        self._tenants = TenantOpening(contexts, runtime.directory)
        self._deployment = DeploymentOpening(runtime, every_job(runtime.plugins))
        self._tools = ToolOpening(
            Parts(
                database=database,
                ring=runtime.ring,
                changes=runtime.changes,
                directory=runtime.directory,
                catalog=runtime.catalog,
                contexts=contexts,
                guard=runtime.guard,
            ),
            worker,
        )

    def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> Any:
        if job is RUN_TOOL:
            return self._tools.open(job, claimed)
        opening = self._deployment if job.name.startswith(PREFIX) else self._tenants
        return opening.open(job, claimed)


def every_job(plugins: Plugins) -> list[Job[..., Any]]:
    """Return the deployment's own jobs and those of all plugins that are loaded."""
    return [*CORE_JOBS, RUN_TOOL, *(job for plugin in plugins.loaded.values() for job in plugin.jobs)]


def job_service(runtime: Runtime, provider: Provider, worker: str, database: Database | None = None) -> JobService:
    """Return a service over a runtime; nothing is started yet. Runs go by `database`, where there is one for them."""

    async def told(claimed: ledger_work.Claimed, state: State) -> None:
        if claimed.task_id is not None:
            await runtime.changes.publish(Change("task", claimed.tenant_id, claimed.task_id.hex))

    openings = _Openings(runtime, database or runtime.database, worker)
    return JobService(
        runtime.database.pool, provider, every_job(runtime.plugins), openings, worker, runtime.metrics, told
    )


@asynccontextmanager
async def working(runtime: Runtime, slots: int, *, patience_s: float) -> AsyncIterator[JobService | None]:
    """Work in the background for as long as the block lasts, on so many runs at once; with none, not at all.

    At the end nothing more is begun; what has not ended after `patience_s` is given back for another worker. Runs
    have connections of their own, one for each: however long they hold them, nothing else of the process waits.
    """
    if slots < 1:
        yield None
        return
    worker = worker_name()
    database = open_database(runtime.database_url, (slots + 1) // 2, runtime.tracing)  # and as many for a moment
    service = job_service(runtime, ArqProvider(runtime.redis_url, worker, slots), worker, database)
    await service.start()
    runtime.worker, runtime.job_database = service, database
    try:
        yield service
    finally:
        runtime.worker = runtime.job_database = None
        await service.stop(patience_s)
        await database.close()
