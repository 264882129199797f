from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest

from mercato.server.app import create_app
from mercato.server.jobs.service import worker_name
from mercato.server.jobs.working import job_service
from mercato.server.mcp.tasks.extension import EXTENSION
from mercato.server.settings import Settings
from mercato.tenancy.grants import enable_category
from tests.server.conftest import envelope, listening
from tests.server.jobs.worker import open_worker
from tests.server.tasks import probe

DECLARED = {"extensions": {EXTENSION: {}}, "elicitation": {}}


@pytest.fixture(scope="module")
async def background(anyio_backend, mercato_addresses, mercato_roomy, tmp_path_factory):
    """A server that listens, with the tools of these tests, and no worker but those that the tests start."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("tasks"), log_level="warning", **mercato_roomy)

    def make(port):
        return create_app(settings.model_copy(update={"port": port}), mercato_addresses, found=[probe.FOUND])

    async with listening(make) as opened:
        yield opened


@pytest.fixture
async def acme(background, tenant):
    probe.gates.clear()
    waiting = "state in ('queued', 'retrying')"  # other tests leave what they do not run
    await background.runtime.database.pool.fetch(f"update mercato.jobs set state = 'cancelled' where {waiting}")
    return await _with_tools(background, tenant)


@pytest.fixture
async def globex(background, other_tenant):
    return await _with_tools(background, other_tenant)


async def _with_tools(background, tenant):
    async with background.runtime.database.tenant(tenant.id) as db:
        await enable_category(db, "background")
    return tenant


def _working(runtime):
    return open_worker(lambda provider: job_service(runtime, provider, worker_name()))


@pytest.fixture
async def worker(background):
    async with _working(background.runtime) as one:
        yield one


@pytest.fixture
async def other_worker(background):
    async with _working(background.runtime) as one:
        yield one


class TaskClient:
    """A modern client that takes tasks."""

    def __init__(self, http, capabilities):
        self.http = http
        self.capabilities = capabilities

    async def send(self, method, params, **headers):
        body, sent = envelope(method, params, **self.capabilities)
        if "taskId" in params:
            sent["mcp-name"] = params["taskId"]
        return (await self.http.post("/mcp", json=body, headers={**sent, **headers})).json()

    async def call(self, name, meta=None, **arguments):
        params = {"name": name, "arguments": arguments, **({"_meta": meta} if meta else {})}
        return (await self.send("tools/call", params))["result"]

    async def get(self, task):
        return (await self.send("tasks/get", {"taskId": task["taskId"]}))["result"]

    async def answer(self, task, **answers):
        responses = {key: {"action": "accept", "content": content} for key, content in answers.items()}
        return await self.send("tasks/update", {"taskId": task["taskId"], "inputResponses": responses})

    async def cancel(self, task):
        return await self.send("tasks/cancel", {"taskId": task["taskId"]})


@pytest.fixture
def client(background):
    """Open a client with a key of a tenant: `async with client(acme) as mcp`."""

    @asynccontextmanager
    async def open_one(tenant, *, scopes=None, key=None, **capabilities):
        key = key or await background.key(tenant, scopes)
        async with background.client(key) as http:
            yield TaskClient(http, capabilities or DECLARED)

    return open_one


@pytest.fixture
def until():
    """Wait for a condition."""

    async def wait(condition):
        with anyio.fail_after(10):
            while not (found := await condition()):
                await anyio.sleep(0.01)
        return found

    return wait
