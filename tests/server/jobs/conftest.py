from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from sqlmodel import col, select

from mercato.server.jobs.inline import InlineProvider
from mercato.server.jobs.opening import TenantOpening
from mercato.server.jobs.service import JobService, worker_name
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy import job_runs
from mercato.tenancy.grants import DisabledTool
from tests.server.jobs import probe


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    async with open_runtime(settings, mercato_addresses, found=[probe.FOUND], strict=True) as opened:
        yield opened


@pytest.fixture
async def acme(runtime, new_tenant):
    waiting = "state in ('queued', 'retrying')"  # other tests leave what they do not run
    await runtime.database.pool.fetch(f"update mercato.jobs set state = 'cancelled' where {waiting}")
    probe.gates.clear()
    probe.seen.clear()
    return await new_tenant(runtime)


@pytest.fixture
async def globex(runtime, new_tenant):
    return await new_tenant(runtime)


class Worker:
    """A process, as far as jobs are concerned: it does what it is asked to, and nothing by itself."""

    def __init__(self, runtime):
        self.provider = InlineProvider()
        opening = TenantOpening(runtime.contexts, runtime.directory)
        self.service = JobService(runtime.database.pool, self.provider, probe.JOBS, opening, worker_name())

    async def run_all(self) -> int:
        """Run what is due, and what follows from it; return how many runs those were."""
        total = 0
        while rung := await self.service.relay.ring():
            total += rung
            await self.provider.run()
        return total


@asynccontextmanager
async def _worker(runtime):
    worker = Worker(runtime)
    await worker.provider.start(worker.service.runner.handle, lambda: None)
    yield worker
    await worker.service.running.stop()


@pytest.fixture
async def here(runtime):
    """One worker."""
    async with _worker(runtime) as worker:
        yield worker


@pytest.fixture
async def there(runtime):
    """Another one."""
    async with _worker(runtime) as worker:
        yield worker


@pytest.fixture
def context(runtime):
    """Open a context of a tenant, in which jobs are enqueued."""

    @asynccontextmanager
    async def open_context(tenant):
        access = await runtime.directory.access(tenant.id)
        async with runtime.contexts.job(access, "probe.test", 0, 1) as ctx:
            yield ctx

    return open_context


@pytest.fixture
def enqueue(context):
    """Enqueue a job for a tenant."""

    async def put(tenant, job, **payload):
        async with context(tenant) as ctx:
            return await job.enqueue(ctx, **payload)

    return put


@pytest.fixture
def read(runtime):
    """Read a run as its tenant sees it."""

    async def one(tenant, run_id):
        async with runtime.database.tenant(tenant.id) as db:
            return await job_runs.read_run(await db.session.connection(), tenant.id, run_id)

    return one


@pytest.fixture
def kept(runtime):
    """The rows that jobs have kept for a tenant."""

    async def names(tenant):
        async with runtime.database.tenant(tenant.id) as db:
            return [row.tool for row in await db.rows(select(DisabledTool.tool).order_by(col(DisabledTool.id)))]

    return names
