"""Plugins that are made in a test, and clients of the server that has them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from mcp import Client

from mercato import hookimpl
from mercato.plugins.manager import Found
from mercato.server.mcp.callers import LocalCallers
from mercato.tenancy.onboarding import local_principal


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
