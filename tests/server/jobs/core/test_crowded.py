"""Runs that hold all that a worker has hold up nothing else of its process."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from pydantic import BaseModel

from mercato import Category
from mercato.plugins.jobs import PRIORITIES, job
from mercato.server.app import create_app
from mercato.server.jobs.core import check_health
from mercato.server.jobs.working import working
from mercato.server.runtime import Addresses
from mercato.server.settings import Settings
from mercato.tenancy.grants import DisabledTool, enable_category
from mercato.tenancy.ledger import NewJob, enqueue_for_deployment
from mercato.tools.context import JobContext, ToolContext
from tests.inmemory import plugin
from tests.server.conftest import listening, modern

SLOTS = 20
crowd = Category("crowd", "For the tests.")
held: list[int] = []


class Written(BaseModel):
    row: int


@crowd.tool(read_only=False)
async def write_row(ctx: ToolContext) -> Written:
    """Write a row."""
    row = DisabledTool(tool="written")
    ctx.db.session.add(row)
    await ctx.db.session.flush()
    return Written(row=row.id or 0)


@job("crowd.hold", timeout_s=120)
async def hold(ctx: JobContext) -> None:
    """Hold a transaction until the end of the test."""
    ctx.db.session.add(DisabledTool(tool=f"held-{ctx.run_id}"))
    await ctx.db.session.flush()
    held.append(ctx.run_id)
    await asyncio.Event().wait()


FOUND = plugin("crowd", register_categories=[crowd], register_jobs=[hold])


@pytest.fixture
async def crowded(own, mercato_addresses, mercato_roomy, acme, tmp_path):
    """A server whose worker has every slot taken by a run that holds a transaction."""
    settings = Settings(data_dir=tmp_path, **mercato_roomy)
    addresses = Addresses(own.url, mercato_addresses.redis_url)
    held.clear()

    def make(port):
        return create_app(settings.model_copy(update={"port": port}), addresses, found=[FOUND])

    async with listening(make) as site, working(site.runtime, SLOTS, patience_s=0):
        async with site.runtime.database.tenant(acme.id) as db:
            await enable_category(db, "crowd")
        access = await site.runtime.directory.access(acme.id)
        async with site.runtime.contexts.job(access, "crowd.test", 0, 1) as ctx:
            for _ in range(SLOTS):
                await hold.enqueue(ctx)
        with anyio.fail_after(30):
            while len(held) < SLOTS:
                await asyncio.sleep(0.02)
        yield site


async def test_runs_that_hold_every_slot_hold_up_no_request_and_no_probe(crowded, acme, globex):
    async with crowded.runtime.database.tenant(globex.id) as db:
        await enable_category(db, "crowd")
    with anyio.fail_after(6):  # for a connection of a pool one waits 8 s
        for tenant in (acme, globex):
            async with crowded.client(await crowded.key(tenant)) as client:
                answer = (await modern(client, "tools/call", {"name": "write_row", "arguments": {}})).json()
                assert answer["result"]["structuredContent"]["row"]
        async with crowded.client(None) as client:
            assert (await client.get("/readyz")).status_code == 200


async def test_the_deployments_own_jobs_run_though_every_slot_is_taken(crowded, own):
    new = NewJob(name=check_health.name, version=1, payload="{}", attempts=1, priority=PRIORITIES["high"])
    async with crowded.runtime.database.system() as session:
        await enqueue_for_deployment(await session.connection(), new)
    with anyio.fail_after(10):
        while await own.superuser.fetchval("select state from mercato.jobs where name = $1", new.name) != "done":
            await asyncio.sleep(0.05)
    assert len(held) == SLOTS
