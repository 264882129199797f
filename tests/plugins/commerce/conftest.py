from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from mcp import Client

from mercato.server.mcp.callers import LocalCallers
from mercato.tenancy.onboarding import local_principal


@pytest.fixture
def mcp_for(runtime):
    """A client for any tenant: `async with mcp_for(tenant) as client`."""

    @asynccontextmanager
    async def open_client(tenant):
        principal = await local_principal(runtime.database, tenant)
        async with Client(runtime.server(runtime.handlers(LocalCallers(principal, runtime.directory)))) as client:
            yield client

    return open_client
