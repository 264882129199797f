from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.applications import Starlette

from mercato.plugins.manager import discover
from mercato.server.app import create_app
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.parts import Parts
from mercato.server.settings import Settings
from mercato.tenancy.grants import enable_category
from mercato.tenancy.onboarding import onboard_tenant
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site, listening
from tests.server.sessions import slow
from tests.server.sessions.client import McpClient


@pytest.fixture(scope="session")
async def replicas(
    anyio_backend: str, mercato_addresses: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Site, Site, Site]]:
    """Three servers over one database and one Redis; nothing sends a client to the same one twice."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("replicas"), log_level="warning", database_pool=4)
    found = [*(one for one in discover() if one.built_in), slow.FOUND]

    def make(port: int) -> Starlette:
        return create_app(settings.model_copy(update={"port": port}), mercato_addresses, found=found)

    async with AsyncExitStack() as stack:
        a, b, c = [await stack.enter_async_context(listening(make)) for _ in range(3)]
        yield a, b, c


@pytest.fixture
def a(replicas: tuple[Site, Site, Site]) -> Site:
    return replicas[0]


@pytest.fixture
def b(replicas: tuple[Site, Site, Site]) -> Site:
    return replicas[1]


@pytest.fixture
def c(replicas: tuple[Site, Site, Site]) -> Site:
    return replicas[2]


def parts_of(site: Site) -> Parts:
    parts: Parts = site.app.state.served.legacy._parts
    return parts


@pytest.fixture
def bounds(replicas: tuple[Site, Site, Site], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set bounds on all replicas for one test."""

    def set_them(**values: Any) -> None:
        for site in replicas:
            for name, value in values.items():
                assert hasattr(Bounds(), name)
                monkeypatch.setattr(parts_of(site).bounds, name, value)

    return set_them


@pytest.fixture
async def shop(a: Site) -> Tenant:
    """A tenant of these servers, with the tools of the tests on."""
    return await _tenant(a, "Acme")


@pytest.fixture
async def other_shop(a: Site) -> Tenant:
    return await _tenant(a, "Globex")


async def _tenant(site: Site, name: str) -> Tenant:
    import secrets

    slug = f"{name.lower()}-{secrets.token_hex(6)}"
    tenant = await onboard_tenant(
        site.runtime.database, slug, name, owner_email=f"ada@{slug}.example", categories=["slow"]
    )
    async with site.runtime.database.tenant(tenant.id) as db:
        await enable_category(db, "slow")
    return tenant


@pytest.fixture
async def connect(a: Site, shop: Tenant) -> AsyncIterator[Callable[..., Awaitable[McpClient]]]:
    """Make a client of a tenant, with a key of its own, that has no session yet."""
    clients: list[McpClient] = []

    async def make(tenant: Tenant | None = None, key: str | None = None) -> McpClient:
        clients.append(McpClient(key or await a.key(tenant or shop)))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
