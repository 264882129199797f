from __future__ import annotations

from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from mcp import Client

from mercato import hookimpl
from mercato.plugins.manager import Found
from mercato.server.mcp.callers import LocalCallers
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.onboarding import local_principal, onboard_tenant


def plugin(name: str, **hooks: Any) -> Found:
    """A plugin made here: `plugin("probe", register_categories=[…])`; each hook returns the value given."""
    module = ModuleType(name)
    for hook, value in hooks.items():
        setattr(module, hook, hookimpl(lambda value=value: value))
    return Found(name, "the tests", "0", True, lambda: module)


@asynccontextmanager
async def client_of(runtime, tenant, **options: Any):
    """A client of this runtime's server, in memory, acting for the tenant as its owner."""
    principal = options.pop("principal", None) or await local_principal(runtime.database, tenant)
    handlers = runtime.handlers(LocalCallers(principal, runtime.directory))
    async with Client(runtime.server(handlers), cache=None, **options) as client:
        yield client


@pytest.fixture
def open_plugins(mercato_addresses, tmp_path):
    """Open a runtime that has only the plugins given, on the session's engines: `async with open_plugins(…)`."""

    def open_them(*found: Found, strict: bool = True):
        settings = Settings(data_dir=tmp_path, database_pool=4)
        return open_runtime(settings, mercato_addresses, found=found, strict=strict)

    return open_them


@pytest.fixture
def new_tenant(request):
    """Make a tenant in a runtime, with every category on."""
    made = []

    async def make(runtime, name="Acme"):
        made.append(name)
        slug = f"{abs(hash(request.node.nodeid)) % 10**12}-{len(made)}"
        categories = runtime.catalog.categories
        return await onboard_tenant(
            runtime.database, slug, name, owner_email=f"ada@{slug}.example", categories=categories
        )

    return make
