"""The deployment's own jobs run while Redis is away: else nobody would be told of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisAway

from mercato.plugins.jobs import PRIORITIES
from mercato.server.jobs.arq_provider import ArqProvider
from mercato.server.jobs.core import check_health
from mercato.server.jobs.service import worker_name
from mercato.server.jobs.working import job_service
from mercato.tenancy.ledger import NewJob, enqueue_for_deployment

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(params=["nobody", "silent"])
async def away(request):
    """The address of a Redis that is not there, or that takes connections and says nothing."""
    if request.param == "nobody":
        yield NOBODY
        return
    taken = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()
    for writer in taken:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _enqueue(runtime, own, tenant):
    new = NewJob(name=check_health.name, version=1, payload="{}", attempts=1, priority=PRIORITIES["high"])
    async with runtime.database.system() as session:
        await enqueue_for_deployment(await session.connection(), new)
    await own.superuser.execute(
        "insert into mercato.jobs (tenant_id, name, version, payload, priority, state, attempts)"
        """ values ($1, 'probe.note', 1, '{"word": "later"}', 1, 'queued', 1)""",
        tenant.id,
    )


async def test_an_alert_of_redis_reaches_the_webhook_without_redis(
    runtime, own, acme, alerts, receiver, away, monkeypatch
):
    async def refuse():
        raise RedisAway("away")

    monkeypatch.setattr(runtime.redis, "ping", refuse)
    worker = worker_name()
    service = job_service(runtime, ArqProvider(away, worker, 4), worker)
    await _enqueue(runtime, own, acme)
    await service.provider.start(service.runner.handle, service.relay.wake)
    service.running.start()
    service.relay.start()
    try:
        with anyio.fail_after(40):
            while not receiver.requests:
                await asyncio.sleep(0.05)
        assert await alerts() == [(0, "health.cache", "critical")]
        state = "select state from mercato.jobs where name = 'probe.note'"
        assert await own.superuser.fetchval(state) == "queued"
    finally:
        await service.stop()


async def test_what_runs_without_redis_is_given_back_when_the_worker_ends(runtime, own, acme, receiver, monkeypatch):
    held = asyncio.Event()

    async def hold():
        held.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(runtime.redis, "ping", hold)
    worker = worker_name()
    service = job_service(runtime, ArqProvider(NOBODY, worker, 4), worker)
    await _enqueue(runtime, own, acme)
    await service.provider.start(service.runner.handle, service.relay.wake)
    service.running.start()
    service.relay.start()
    with anyio.fail_after(40):
        await held.wait()
    await service.stop()
    rows = await own.superuser.fetch("select state, attempt from mercato.jobs where name = 'core.check_health'")
    assert [tuple(row) for row in rows] == [("queued", 0)]
