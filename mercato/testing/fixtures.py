"""The fixtures. Nothing heavy is imported before the first of them is used."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mcp import Client

    from mercato.server.runtime import Addresses, Runtime
    from mercato.tenancy.database import Database
    from mercato.tenancy.tenants import Tenant
    from mercato.testing.outside import HttpRouter
    from mercato.testing.tasks import TaskClient
    from mercato.tools.context import ToolContext

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the whole session: the database's connections live in it."""
    return "asyncio"


@pytest.fixture(scope="session")
def mercato_logs() -> None:
    """Plain lines: the default of structlog draws every local variable of a trace, which takes seconds."""
    import structlog

    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture(scope="session")
def mercato_addresses(mercato_logs: None) -> Iterator[Addresses]:
    """Embedded engines in a temporary directory, without the care for power cuts that a real one takes."""
    from mercato.server.engines import Engines
    from mercato.server.runtime import Addresses

    home = Path(tempfile.mkdtemp(prefix="mercato-test-"))
    home.chmod(0o755)  # as root the engines run as another user, who must get in
    engines = Engines(home / "data", durable=False)
    try:
        engines.start()
        engines.wait()
        yield Addresses(engines.database_url, engines.redis_url)
    finally:
        engines.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def mercato_outside() -> HttpRouter:
    """The outside world of the session."""
    from mercato.testing.outside import HttpRouter

    return HttpRouter()


@pytest.fixture(scope="session")
def mercato_roomy() -> dict[str, Any]:
    """Settings of every server of the session: the same keys, as one database is theirs, and limits nobody reaches."""
    from mercato.tenancy.limits import NAMES
    from mercato.tenancy.secrets import new_key

    return {"secret_keys": new_key(), **{f"limit_{name}": 1_000_000 for name in NAMES}}


@pytest.fixture(scope="session")
async def runtime(
    anyio_backend: str,
    mercato_addresses: Addresses,
    mercato_outside: HttpRouter,
    mercato_roomy: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Runtime]:
    """The server's parts with every installed plugin; the first plugin that fails raises."""
    from mercato.server.runtime import open_runtime
    from mercato.server.settings import Settings

    settings = Settings(data_dir=tmp_path_factory.mktemp("settings"), log_level="warning", **mercato_roomy)
    async with open_runtime(settings, mercato_addresses, strict=True, transport=mercato_outside) as opened:
        yield opened


@pytest.fixture
def database(runtime: Runtime) -> Database:
    """The database."""
    return runtime.database


@pytest.fixture
async def tenant(runtime: Runtime) -> Tenant:
    """A new tenant, Acme, with every category on."""
    return await _new_tenant(runtime, "Acme")


@pytest.fixture
async def other_tenant(runtime: Runtime) -> Tenant:
    """Another new tenant, Globex, to show that nothing of Acme reaches it."""
    return await _new_tenant(runtime, "Globex")


@pytest.fixture
async def mcp(runtime: Runtime, tenant: Tenant) -> AsyncIterator[Client]:
    """A client of the real server, in memory, acting for `tenant` as its owner."""
    async with _client(runtime, tenant) as client:
        yield client


@pytest.fixture
async def other_mcp(runtime: Runtime, other_tenant: Tenant) -> AsyncIterator[Client]:
    """The same for `other_tenant`."""
    async with _client(runtime, other_tenant) as client:
        yield client


@pytest.fixture
async def tasks(runtime: Runtime, tenant: Tenant) -> AsyncIterator[TaskClient]:
    """A client that takes tasks and can be asked, acting for `tenant` as its owner.

    `task = await tasks.call("make_report", year=2025)`, `await run_jobs()`, `await tasks.answer(task, size={"cm": 3})`,
    and `(await tasks.get(task))["status"]`.
    """
    async with _task_client(runtime, tenant) as client:
        yield client


@pytest.fixture
async def other_tasks(runtime: Runtime, other_tenant: Tenant) -> AsyncIterator[TaskClient]:
    """The same for `other_tenant`."""
    async with _task_client(runtime, other_tenant) as client:
        yield client


@pytest.fixture
def mercato_contexts() -> list[ToolContext]:
    """The contexts that the test has open: `run_jobs` commits what they wrote, as no job is seen before that."""
    return []


@pytest.fixture
async def ctx(runtime: Runtime, tenant: Tenant, mercato_contexts: list[ToolContext]) -> AsyncIterator[ToolContext]:
    """A context of `tenant`, to call functions with directly.

    What it wrote is committed by `await run_jobs()`, and when the test ends.
    """
    from mercato.tenancy.onboarding import local_principal
    from mercato.tools.context import Conversation

    access = await runtime.directory.access(tenant.id)
    assert access is not None
    principal = await local_principal(runtime.database, tenant)
    conversation = Conversation(_Nobody())
    async with runtime.contexts.context(principal, access, conversation, read_only=False, name="test") as opened:
        mercato_contexts.append(opened)
        yield opened


@pytest.fixture
async def run_jobs(
    runtime: Runtime, mercato_contexts: list[ToolContext]
) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Run what was enqueued and is due, and what follows from it; what `ctx` wrote is committed first.

    `await run_jobs()` returns how many runs it handed over, whatever became of them. There is no time in it: what is to
    run later, or again after a failure, waits. Those of all tenants are run, also what other tests have left.
    """
    from mercato.server.jobs.inline import InlineProvider
    from mercato.server.jobs.service import worker_name
    from mercato.server.jobs.working import job_service

    provider = InlineProvider()
    service = job_service(runtime, provider, worker_name())
    await provider.start(service.runner.handle, service.relay.wake)

    async def drain() -> int:
        for ctx in mercato_contexts:
            await _commit(ctx)
        total = 0
        while rung := await service.relay.ring():
            total += rung
            await provider.run()
        return total

    yield drain
    await service.running.stop()


@pytest.fixture
def http(mercato_outside: HttpRouter) -> Iterator[HttpRouter]:
    """The outside world: give answers with `http.on("GET", url, json=…)`; any other request fails the call."""
    mercato_outside.reset()
    yield mercato_outside
    mercato_outside.reset()


@pytest.fixture
def connect(runtime: Runtime, tenant: Tenant) -> Callable[..., Awaitable[None]]:
    """Connect an integration: `await connect("shopify", "acme.myshopify.com", token="…")`."""
    from mercato.server.changes import Change
    from mercato.tenancy.connections import open_connection

    async def open_one(integration: str, account: str = "test", **credentials: Any) -> None:
        async with runtime.database.tenant(tenant.id) as db:
            await open_connection(db, runtime.ring, integration, account, credentials)
        await runtime.changes.publish(Change("access", tenant.id))

    return open_one


@pytest.fixture
def assert_tool_snapshot(runtime: Runtime, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compare a tool's definition with `tests/snapshots/tools/<name>.json` below pytest's root directory."""
    from mercato.server.mcp.wire import wire_tool
    from mercato.testing.snapshots import assert_snapshot

    folder = Path(request.config.rootpath) / "tests" / "snapshots" / "tools"

    def check(name: str) -> None:
        definition = wire_tool(runtime.catalog.tools[name]).model_dump(by_alias=True, mode="json", exclude_none=True)
        assert_snapshot(folder / f"{name}.json", definition)

    return check


class _Nobody:
    """A client that cannot be asked and does not listen."""

    can_ask = False

    async def ask(self, key: str, message: str, schema: dict[str, Any]) -> None:
        from mercato.tools.errors import ConfirmationNeeded

        raise ConfirmationNeeded("Nobody can be asked here.")

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        return None


async def _new_tenant(runtime: Runtime, name: str) -> Tenant:
    from mercato.tenancy.onboarding import onboard_tenant

    slug = f"{name.lower()}-{next(_numbers)}"
    return await onboard_tenant(
        runtime.database, slug, name, owner_email=f"ada@{slug}.example", categories=runtime.catalog.categories
    )


async def _commit(ctx: ToolContext) -> None:
    """Commit what was written so far; the next use of `ctx.db` begins another transaction."""
    db, ctx._db = ctx._db, None
    if db is not None:
        try:
            await db.commit()
        finally:
            await db.close()


@asynccontextmanager
async def _task_client(runtime: Runtime, tenant: Tenant) -> AsyncIterator[TaskClient]:
    from mcp.client.extension import advertise

    from mercato.server.mcp.tasks.extension import EXTENSION
    from mercato.testing.tasks import TaskClient, cannot_be_asked

    options = {"extensions": [advertise(EXTENSION)], "elicitation_callback": cannot_be_asked}
    async with _client(runtime, tenant, **options) as client:
        yield TaskClient(client)


@asynccontextmanager
async def _client(runtime: Runtime, tenant: Tenant, **options: Any) -> AsyncIterator[Client]:
    from mcp import Client

    from mercato.server.mcp.callers import LocalCallers
    from mercato.tenancy.onboarding import local_principal

    principal = await local_principal(runtime.database, tenant)
    handlers = runtime.handlers(LocalCallers(principal, runtime.directory))
    async with Client(runtime.server(handlers), **options) as client:
        yield client
