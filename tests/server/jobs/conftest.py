from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from sqlmodel import col, select

from mercato.server.jobs.opening import TenantOpening
from mercato.server.jobs.service import JobService, worker_name
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy import job_runs
from mercato.tenancy.grants import DisabledTool
from tests.server.jobs import probe
from tests.server.jobs.worker import open_worker


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    async with open_runtime(settings, mercato_addresses, found=[probe.FOUND], strict=True) as opened:
        yield opened


@pytest.fixture
async def acme(runtime, new_tenant):
    left = "state in ('queued', 'retrying', 'running')"  # by other tests, which do not run it or kill who does
    await runtime.database.pool.fetch(f"update mercato.jobs set state = 'cancelled', lease_until = null where {left}")
    probe.gates.clear()
    probe.seen.clear()
    return await new_tenant(runtime)


@pytest.fixture
async def globex(runtime, new_tenant):
    return await new_tenant(runtime)


def _working(runtime):
    def make(provider):
        opening = TenantOpening(runtime.contexts, runtime.directory)
        return JobService(runtime.database.pool, provider, probe.JOBS, opening, worker_name())

    return open_worker(make)


@pytest.fixture
async def here(runtime):
    """One worker."""
    async with _working(runtime) as worker:
        yield worker


@pytest.fixture
async def there(runtime):
    """Another one."""
    async with _working(runtime) as worker:
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
