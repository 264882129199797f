"""A deployment of these tests' own: its jobs look at everything there is in a database."""

from __future__ import annotations

import pytest

from mercato.plugins.jobs import PRIORITIES
from mercato.server.jobs.inline import InlineProvider
from mercato.server.jobs.service import worker_name
from mercato.server.jobs.working import job_service
from mercato.server.runtime import Addresses, open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.ledger import NewJob, enqueue_for_deployment
from mercato.testing.outside import HttpRouter
from tests.own_database import own_database
from tests.server.jobs import probe

WEBHOOK = "https://alerts.example/hook/very-secret"
SECRET = "a secret of the receiver"


@pytest.fixture(scope="module")
async def own(anyio_backend, mercato_addresses):
    async with own_database(mercato_addresses) as opened:
        yield opened


@pytest.fixture(scope="module")
def outside():
    return HttpRouter()


@pytest.fixture(scope="module")
async def runtime(own, outside, mercato_addresses, tmp_path_factory):
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        alert_webhook_url=WEBHOOK,
        alert_webhook_secret=SECRET,
        audit_kept_days=30,
        usage_kept_months=13,
    )
    addresses = Addresses(own.url, mercato_addresses.redis_url)
    async with open_runtime(settings, addresses, found=[probe.FOUND], strict=True, transport=outside) as opened:
        yield opened


@pytest.fixture
async def receiver(outside):
    """The webhook, which takes everything until a test says otherwise."""
    outside.reset()
    outside.on("POST", WEBHOOK, status=204)
    return outside


@pytest.fixture(autouse=True)
async def nothing_of_others(own):
    yield
    await own.superuser.execute("truncate mercato.alerts, mercato.jobs, mercato.circuits, mercato.connections cascade")


@pytest.fixture
async def acme(own):
    return await own.new_tenant("acme")


@pytest.fixture
async def globex(own):
    return await own.new_tenant("globex")


@pytest.fixture
async def drain(runtime):
    """Run what is due, and what follows."""
    provider = InlineProvider()
    service = job_service(runtime, provider, worker_name())
    await provider.start(service.runner.handle, service.relay.wake)

    async def run_all():
        while await service.relay.ring():
            await provider.run()

    yield run_all
    await service.running.stop()


@pytest.fixture
def run(runtime, own, drain):
    """Run one of the deployment's jobs, and return what it returned; it must go well."""

    async def once(job, **payload):
        new = NewJob(
            name=job.name,
            version=job.version,
            payload=job.dump(payload),
            attempts=1,
            priority=PRIORITIES[job.priority],
        )
        async with runtime.database.system() as session:
            await enqueue_for_deployment(await session.connection(), new)
        await drain()
        rows = await runtime.database.pool.fetch(
            "select state, error, result from mercato.jobs where name = $1 order by id desc limit 1", job.name
        )
        assert (rows[0]["state"], rows[0]["error"]) == ("done", None)
        return rows[0]["result"]

    return once


@pytest.fixture
def alerts(own):
    """The alerts that are not resolved: tenant, key and severity."""

    async def read():
        rows = await own.superuser.fetch(
            "select tenant_id, key, severity from mercato.alerts where resolved_at is null order by tenant_id, key"
        )
        return [tuple(row) for row in rows]

    return read
