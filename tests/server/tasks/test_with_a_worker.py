"""Tasks with a worker that works by itself: they begin at once, and end at once where that is asked for."""

from __future__ import annotations

import anyio
import pytest

from mercato.server.jobs import running
from mercato.server.jobs.working import working
from tests.server.tasks import probe


@pytest.fixture
def rare_beats(monkeypatch):
    """Nobody looks at leases by the clock."""
    monkeypatch.setattr(running, "BEAT_S", 60)


@pytest.fixture
async def worker(rare_beats, background):
    async with working(background.runtime, 4, patience_s=0) as service:
        yield service


async def test_a_task_runs_without_anybodys_help(acme, client, worker, until):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="alone")

        async def has_ended():
            return (await mcp.get(task))["status"] == "completed"

        await until(has_ended)


async def test_a_task_that_runs_is_cancelled_before_its_lease_is_looked_at(acme, client, worker, until):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="held", held=True)
        with anyio.fail_after(10):
            await probe.gates["held"].started.wait()
        await mcp.cancel(task)

        async def has_ended():
            return (await mcp.get(task))["status"] == "cancelled"

        await until(has_ended)
