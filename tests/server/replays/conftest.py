from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlmodel import col, select

from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.answers import Answer
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.grants import DisabledTool
from mercato.tenancy.onboarding import local_principal
from tests.server.replays.replica import Replica
from tests.server.replays.tools import FOUND, gates


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    async with open_runtime(settings, mercato_addresses, found=[FOUND], strict=True) as opened:
        yield opened


@pytest.fixture
async def acme(runtime, new_tenant):
    gates.clear()
    return await new_tenant(runtime)


@asynccontextmanager
async def _process(runtime, ahead=timedelta(0)):
    replica = Replica(runtime, ahead)
    replica.replays.start()
    yield replica
    await replica.replays.stop()


@pytest.fixture
async def here(runtime):
    """One process."""
    async with _process(runtime) as process:
        yield process


@pytest.fixture
async def there(runtime):
    """Another one."""
    async with _process(runtime) as process:
        yield process


@pytest.fixture
async def later(runtime):
    """A process to which three seconds have passed since."""
    async with _process(runtime, timedelta(seconds=3)) as process:
        yield process


@pytest.fixture
async def ada(runtime, acme):
    """Who makes the calls."""
    return await local_principal(runtime.database, acme)


@pytest.fixture
def somebody_else(ada):
    """Another principal of the same tenant."""
    return replace(ada, kind="key", credential_id=7)


@pytest.fixture
def effects(runtime, acme):
    """How often something was done for the tenant: rows that were kept, each with its entry in the audit."""

    async def count(tenant=acme):
        async with runtime.database.tenant(tenant.id) as db:
            kept = len(await db.rows(select(DisabledTool)))
            audited = len(await db.rows(select(AuditEntry).where(col(AuditEntry.action) != "tenant.create")))
        assert kept == audited
        return kept

    return count


@pytest.fixture
def rows(runtime, acme):
    """What is kept of answers."""

    async def read():
        async with runtime.database.tenant(acme.id) as db:
            return await db.rows(select(Answer).order_by(col(Answer.id)))

    return read
