"""Notices: what changed is told to sessions of that tenant, wherever they listen, and once to those that did not."""

from __future__ import annotations

from typing import Any

import anyio

from mercato.server.changes import Change
from mercato.server.mcp.sessions import names
from mercato.tenancy.grants import disable_category, disable_tool
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site
from tests.server.sessions.client import Stream
from tests.server.sessions.conftest import parts_of

LISTS = {f"notifications/{name}/list_changed" for name in ("tools", "prompts", "resources")}


async def told(stream: Stream, number: int) -> list[dict[str, Any]]:
    with anyio.fail_after(1):
        return [await stream.message() for _ in range(number)]


async def nothing_more(site: Site, stream: Stream, session_id: str) -> bool:
    """Whether nothing comes before what is sent now."""
    await parts_of(site).streams.append(session_id, names.STANDALONE, [b'{"mark":1}'])
    return await stream.message() == {"mark": 1}


async def test_a_toggle_at_one_replica_reaches_the_tenants_sessions_at_the_others(
    a: Site, b: Site, c: Site, connect, shop: Tenant, other_shop: Tenant
):
    first, second = await (await connect()).open(a), await (await connect()).open(a)
    stranger = await (await connect(other_shop)).open(a)
    async with first.listening(b) as one, second.listening(c) as two, stranger.listening(b) as other:
        async with a.runtime.database.tenant(shop.id) as db:
            await disable_tool(db, "echo")
        await a.runtime.changes.publish(Change("access", shop.id))
        assert {message["method"] for message in await told(one, 3)} == LISTS
        assert {message["method"] for message in await told(two, 3)} == LISTS
        listed = (await first.ask(b, "tools/list")).json()["result"]["tools"]
        assert await nothing_more(a, one, first.session_id)
        assert await nothing_more(a, other, stranger.session_id)
    assert "echo" not in {tool["name"] for tool in listed}


async def test_changes_that_come_together_are_told_of_once(a: Site, b: Site, connect, shop: Tenant, bounds):
    bounds(gathered_s=0.5)
    client = await (await connect()).open(a)
    async with client.listening(b) as stream:
        for _ in range(10):
            await a.runtime.changes.publish(Change("access", shop.id))
        await told(stream, 3)
        assert await nothing_more(b, stream, client.session_id)


async def test_a_change_while_nobody_listened_is_told_once_when_somebody_does(
    a: Site, b: Site, c: Site, connect, shop: Tenant
):
    client = await (await connect()).open(a)
    await a.runtime.changes.publish(Change("access", shop.id))
    async with client.listening(b) as stream:
        assert {message["method"] for message in await told(stream, 3)} == LISTS
    async with client.listening(c) as stream:
        assert await nothing_more(a, stream, client.session_id)


async def test_what_was_told_is_not_told_again(a: Site, b: Site, connect, shop: Tenant):
    client = await (await connect()).open(a)
    async with client.listening(a) as stream:
        await b.runtime.changes.publish(Change("access", shop.id))
        await told(stream, 3)
    async with client.listening(b) as stream:
        assert await nothing_more(a, stream, client.session_id)


async def test_a_write_tells_those_who_subscribed_and_nobody_else(a: Site, b: Site, c: Site, connect, shop: Tenant):
    subscriber, other, writer = [await (await connect()).open(a) for _ in range(3)]
    async with subscriber.listening(b) as stream, other.listening(b) as silent:
        await subscriber.ask(c, "resources/subscribe", {"uri": "slow://thing"})
        await writer.call(a, "change")
        (message,) = await told(stream, 1)
        assert await nothing_more(a, silent, other.session_id)
        await subscriber.ask(a, "resources/unsubscribe", {"uri": "slow://thing"})
        await writer.call(c, "change")
        assert await nothing_more(a, stream, subscriber.session_id)
    assert message["params"] == {"uri": "slow://thing"}
    assert message["method"] == "notifications/resources/updated"


async def test_an_update_while_nobody_listened_is_told_later(a: Site, b: Site, connect, shop: Tenant):
    client = await (await connect()).open(a)
    await client.ask(a, "resources/subscribe", {"uri": "slow://thing"})
    await client.call(b, "change")
    async with client.listening(b) as stream:
        (message,) = await told(stream, 1)
        assert message["params"] == {"uri": "slow://thing"}
    async with client.listening(a) as stream:
        assert await nothing_more(b, stream, client.session_id)


async def test_what_may_not_be_read_any_more_is_not_told_of(a: Site, b: Site, connect, shop: Tenant):
    client = await (await connect()).open(a)
    async with client.listening(b) as stream:
        await client.ask(b, "resources/subscribe", {"uri": "slow://thing"})
        async with a.runtime.database.tenant(shop.id) as db:
            await disable_category(db, "slow")
        await a.runtime.changes.publish(Change("access", shop.id))
        assert {message["method"] for message in await told(stream, 3)} == LISTS
        await a.runtime.changes.publish(Change("resource", shop.id, "slow://thing"))
        await a.runtime.changes.publish(Change("catalog", shop.id))
        assert {message["method"] for message in await told(stream, 3)} == LISTS


async def test_what_may_not_be_read_cannot_be_subscribed_to(a: Site, connect):
    client = await (await connect()).open(a)
    refused = (await client.ask(a, "resources/subscribe", {"uri": "slow://nothing"})).json()
    assert refused["error"]["code"] == -32002
    assert (await parts_of(a).sessions.read(client.session_id)).uris == frozenset()


async def test_a_change_in_a_gap_of_the_bus_is_told_after_it(a: Site, b: Site, connect, shop: Tenant):
    client = await (await connect()).open(a)
    async with client.listening(b) as stream:
        heard, listeners = anyio.Event(), b.runtime.changes._listeners.copy()
        b.runtime.changes._listeners.clear()
        b.runtime.changes.subscribe(lambda change: heard.set())
        await a.runtime.changes.publish(Change("access", shop.id))
        with anyio.fail_after(5):
            await heard.wait()
        b.runtime.changes._listeners = listeners
        b.runtime.changes._deliver(Change("access", 0))  # what the bus says when it is back
        assert {message["method"] for message in await told(stream, 3)} == LISTS
