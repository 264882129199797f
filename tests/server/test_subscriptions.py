"""Listening: what changed reaches the listeners of that tenant, from any process, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import orjson
from redis.asyncio import Redis

from mercato.server.changes import CHANNEL, Change, ChangeBus
from mercato.server.mcp.announcement import KEY, announce
from mercato.tenancy.grants import disable_tool
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site, envelope, modern

EVERYTHING = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourcesListChanged": True,
    "resourceSubscriptions": ["probe://thing", "secret://thing"],
}


class Stream:
    """A listen stream: its messages, one after the other."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        with anyio.fail_after(10):
            async for line in self._lines:
                if line.startswith("data: "):
                    message: dict[str, Any] = orjson.loads(line[6:])
                    return message
        raise AssertionError("the stream ended")


@asynccontextmanager
async def listening(client: httpx.AsyncClient) -> AsyncIterator[tuple[Stream, dict[str, Any]]]:
    body, headers = envelope("subscriptions/listen", {"notifications": EVERYTHING})
    async with client.stream("POST", "/mcp", json=body, headers=headers) as response:
        stream = Stream(response)
        yield stream, await stream.next()


@asynccontextmanager
async def another_process(site: Site) -> AsyncIterator[ChangeBus]:
    """A change bus that is not this server's: what another replica or a command would have."""
    redis = Redis(connection_pool=site.runtime.redis.connection_pool)
    yield ChangeBus(redis)


async def test_the_acknowledgement_leaves_out_what_the_caller_may_not_read(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client, listening(client) as (_, acknowledged):
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        honoured = acknowledged["params"]["notifications"]
    assert honoured["resourceSubscriptions"] == ["probe://thing"]
    assert honoured["toolsListChanged"] is True


async def test_a_toggle_of_another_process_reaches_the_tenants_listeners(site: Site, acme: Tenant):
    async with (
        site.client(await site.key(acme)) as client,
        listening(client) as (stream, _),
        another_process(site) as bus,
    ):
        async with site.runtime.database.tenant(acme.id) as db:
            await disable_tool(db, "echo")
        await bus.publish(Change("access", acme.id))
        methods = {(await stream.next())["method"] for _ in range(3)}
        listed = (await modern(client, "tools/list")).json()["result"]["tools"]
    assert methods == {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
    }
    assert "echo" not in {tool["name"] for tool in listed}


async def test_a_write_tells_the_subscribers_of_what_it_changed(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client, listening(client) as (stream, _):
        await modern(client, "tools/call", {"name": "change", "arguments": {}})
        message = await stream.next()
    assert message["method"] == "notifications/resources/updated"
    assert message["params"]["uri"] == "probe://thing"


async def test_changes_of_another_tenant_do_not_arrive(site: Site, acme: Tenant, other_tenant: Tenant):
    async with (
        site.client(await site.key(acme)) as client,
        listening(client) as (stream, _),
        another_process(site) as bus,
    ):
        await bus.publish(Change("resource", other_tenant.id, "probe://thing"))
        await bus.publish(Change("access", other_tenant.id))
        await bus.publish(Change("resource", acme.id, "probe://thing"))
        assert (await stream.next())["method"] == "notifications/resources/updated"


async def test_a_broken_message_on_the_channel_stops_nothing(site: Site, acme: Tenant):
    async with (
        site.client(await site.key(acme)) as client,
        listening(client) as (stream, _),
        another_process(site) as bus,
    ):
        await site.runtime.redis.publish(CHANNEL, b"nonsense")
        await bus.publish(Change("resource", acme.id, "probe://thing"))
        assert (await stream.next())["method"] == "notifications/resources/updated"


async def test_a_stream_ends_when_its_key_is_revoked(site: Site, acme: Tenant):
    from mercato.tenancy.keys import list_keys, revoke_key

    async with site.client(await site.key(acme)) as client, listening(client) as (stream, _):
        async with site.runtime.database.tenant(acme.id) as db:
            await revoke_key(db, (await list_keys(db))[0].id)
        await site.runtime.changes.publish(Change("access", acme.id))
        messages = [await stream.next()]
        while "result" not in messages[-1]:
            messages.append(await stream.next())
    assert messages[-1]["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 1


async def test_what_was_switched_off_is_not_told_of_any_more(site: Site, acme: Tenant):
    from mercato.tenancy.grants import disable_category

    async with site.client(await site.key(acme)) as client, listening(client) as (stream, _):
        async with site.runtime.database.tenant(acme.id) as db:
            await disable_category(db, "probe")
        await site.runtime.changes.publish(Change("access", acme.id))
        for _ in range(3):
            await stream.next()
        await site.runtime.changes.publish(Change("resource", acme.id, "probe://thing"))
        await site.runtime.changes.publish(Change("catalog", acme.id))
        assert (await stream.next())["method"] == "notifications/tools/list_changed"


async def test_a_server_that_starts_with_other_plugins_tells_the_listeners_of_every_tenant(site: Site, acme: Tenant):
    runtime = site.runtime
    async with site.client(await site.key(acme)) as client, listening(client) as (stream, _):
        await runtime.redis.set(KEY, b"what another version of it served")
        assert await announce(runtime.catalog, runtime.redis, runtime.changes)
        methods = {(await stream.next())["method"] for _ in range(3)}
    assert "notifications/tools/list_changed" in methods
    assert not await announce(runtime.catalog, runtime.redis, runtime.changes)  # the same again is no news
