from __future__ import annotations

import shutil
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import make_url

from mercato.server.usage import UsageLedger, Used, admitted_on
from mercato.tenancy.database import Database
from mercato.tenancy.usage_summary import Days, read_usage
from tests.server.usage.relay import Relay


def used(at, tenant_id, **fields):
    """A call of `get_order` that went well."""
    values = {
        "user_id": None,
        "kind": "key",
        "credential_id": 12,
        "client_id": "key:12",
        "session_id": None,
        "request_id": "request-1",
        "tool": "get_order",
        "category": "commerce",
        "outcome": "ok",
        "duration_us": 1_500,
        "request_bytes": 78,
        "answer_bytes": 390,
    }
    return Used(at=at, tenant_id=tenant_id, **(values | fields))


def call(ledger, tenant_id, **fields):
    """One call, from its admission to its record."""
    ledger.note(used(ledger.admitted(tenant_id), tenant_id, **fields))


@pytest.fixture
def today():
    return datetime.now(UTC).date()


@pytest.fixture
async def open_ledger(runtime, mercato_addresses):
    """Make ledgers that are not started; over the session's engines, or through relays."""
    opened = []

    def make(database_url=None, redis_url=None):
        database = Database(database_url or mercato_addresses.database_url, pool_size=2)
        url = redis_url or mercato_addresses.redis_url
        redis = Redis.from_url(url, socket_connect_timeout=2)
        opened.append((ledger := UsageLedger(database, redis, url), database, redis))
        return ledger

    yield make
    for ledger, database, redis in opened:
        await ledger.stop()
        await database.close()
        await redis.aclose()


@pytest.fixture
async def recorded(database, today):
    """Say how many calls of a tenant are in the database, today."""

    async def count(tenant_id):
        async with database.tenant(tenant_id, read_only=True) as db:
            return (await read_usage(db, "tool", Days(today, today), limit=1)).total.calls

    return count


@pytest.fixture
async def admitted(runtime, today):
    """Say how many calls of a tenant were let in, today."""

    async def count(tenant_id):
        return (await admitted_on(runtime.redis, tenant_id, [today]))[today]

    return count


@pytest.fixture
async def database_relay(mercato_addresses):
    """A relay before PostgreSQL; its URL is `url`."""
    url = make_url(mercato_addresses.database_url)
    name = f".s.PGSQL.{url.query['port']}"
    relay = Relay(f"{url.query['host']}/{name}", name)
    await relay.open()
    relay.url = url.update_query_dict({"host": str(relay.folder)}).render_as_string(hide_password=False)
    yield relay
    await relay.cut()
    shutil.rmtree(relay.folder)


@pytest.fixture
async def redis_relay(mercato_addresses):
    """A relay before Valkey; its URL is `url`."""
    parts = urlsplit(mercato_addresses.redis_url)
    relay = Relay(parts.path, "redis.sock")
    await relay.open()
    relay.url = f"unix://{relay.path}?db={parse_qs(parts.query)['db'][0]}"
    yield relay
    await relay.cut()
    shutil.rmtree(relay.folder)
