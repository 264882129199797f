"""HTTP+SSE of 2024-11-05: the stream at one replica, the messages at any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from mercato.server.app import create_app
from mercato.server.changes import Change
from mercato.server.settings import Settings
from mercato.tenancy.limits import set_limit
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site, listening
from tests.server.sessions.client import ASKS, McpClient, Stream, call, request
from tests.server.sessions.conftest import parts_of
from tests.server.sessions.slow import gates

HELLO = {**ASKS, "protocolVersion": "2024-11-05"}


@asynccontextmanager
async def open_sse(client: McpClient, site: Site) -> AsyncIterator[tuple[Stream, str]]:
    async with client.at(site).stream("GET", "/sse") as response:
        stream = Stream(response)
        first = await stream.next()
        assert first.kind == "endpoint"
        yield stream, first.data


async def shake_hands(client: McpClient, stream: Stream, address: str, *sites: Site) -> dict[str, Any]:
    first, last = sites[0], sites[-1]
    assert (await client.at(first).post(address, json=request("initialize", HELLO, 0))).status_code == 202
    answer = await stream.message()
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await client.at(last).post(address, json=ready)).status_code == 202
    return answer


async def test_messages_may_go_to_any_replica_and_their_answers_come_on_the_stream(a: Site, b: Site, c: Site, connect):
    client = await connect()
    async with open_sse(client, a) as (stream, address):
        hello = await shake_hands(client, stream, address, b, c)
        for number, site in enumerate((a, b, c), 1):
            accepted = await client.at(site).post(address, json=call("echo", number, text=str(number)))
            answer = await stream.message()
            assert accepted.status_code == 202
            assert answer["id"] == number
            assert answer["result"]["content"][0]["text"].endswith(f': {number}"}}')
    assert hello["result"]["protocolVersion"] == "2024-11-05"
    assert address.startswith("/messages?session_id=")


async def test_progress_and_questions_travel_on_the_same_stream(a: Site, b: Site, c: Site, connect, shop: Tenant):
    client = await connect()
    gates[shop.slug].opened.set()
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, a)
        await client.at(b).post(address, json=call("step", token="p", gate=shop.slug))
        assert [(await stream.message()).get("method") for _ in range(3)] == ["notifications/progress"] * 2 + [None]
        await client.at(c).post(address, json=call("ask", 2))
        question = await stream.message()
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}
        await client.at(b).post(address, json=reply)
        assert "Hello, Ada!" in str(await stream.message())


async def test_a_cancellation_and_a_change_reach_it_too(a: Site, b: Site, c: Site, connect, shop: Tenant):
    client, gate = await connect(), gates[shop.slug]
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, a)
        await client.at(b).post(address, json=call("wait", 9, gate=shop.slug))
        await gate.reached.wait()
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
        await client.at(c).post(address, json=note)
        assert (await stream.message())["error"]["code"] == -32800
        await c.runtime.changes.publish(Change("access", shop.id))
        assert (await stream.message())["method"] == "notifications/tools/list_changed"


async def test_a_session_of_somebody_else_or_of_the_other_transport_is_404(a: Site, connect, other_shop: Tenant):
    client, colleague, stranger = await connect(), await connect(), await connect(other_shop)
    async with open_sse(client, a) as (_, address):
        for other in (colleague, stranger):
            assert (await other.at(a).post(address, json=request("ping"))).status_code == 404
        client.session_id = address.partition("=")[2]
        assert (await client.ask(a, "ping")).status_code == 404
    newer = await (await connect()).open(a)
    address = f"/messages?session_id={newer.session_id}"
    assert (await newer.at(a).post(address, json=request("ping"))).status_code == 404
    assert (await newer.at(a).post("/messages", json=request("ping"))).status_code == 400


async def test_a_session_ends_with_its_stream(a: Site, b: Site, connect, shop: Tenant):
    client, gate = await connect(), gates[shop.slug]
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, a)
        await client.at(b).post(address, json=call("wait", gate=shop.slug))
        await gate.reached.wait()
    with anyio.fail_after(5):
        await gate.cancelled.wait()
        while (await client.at(b).post(address, json=request("ping"))).status_code != 404:
            await anyio.lowlevel.checkpoint()


async def test_who_is_not_known_gets_no_stream(a: Site):
    async with httpx.AsyncClient(base_url=a.url) as client:
        refused = await client.get("/sse")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].endswith('scope="tools:read tools:write"')
        assert "/.well-known/oauth-protected-resource/mcp" in refused.headers["www-authenticate"]
        assert (await client.post("/messages?session_id=x", json=request("ping"))).status_code == 401


@pytest.mark.parametrize(("body", "code"), [(b"{nope", -32700), (b"[]", -32600), (b'{"jsonrpc":"2.0"}', -32600)])
async def test_what_is_no_message_is_400(a: Site, connect, body: bytes, code: int):
    client = await connect()
    async with open_sse(client, a) as (_, address):
        response = await client.at(a).post(address, content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


async def test_the_client_of_the_sdk_speaks_it(a: Site, connect):
    from mcp import ClientSession
    from mcp.client.sse import sse_client

    client = await connect()
    headers = {"authorization": f"Bearer {client.key}"}
    async with sse_client(f"{a.url}/sse", headers=headers) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        result = await session.call_tool("echo", {"text": "hi"})
    assert result.content[0].text.endswith(': hi"}')


async def test_a_setting_turns_it_off(mercato_addresses: Any, tmp_path):
    settings = Settings(data_dir=tmp_path, log_level="warning", sse=False, database_pool=2)
    make = lambda port: create_app(settings.model_copy(update={"port": port}), mercato_addresses, found=[])  # noqa: E731
    async with listening(make) as site, httpx.AsyncClient(base_url=site.url) as client:
        assert (await client.get("/sse")).status_code == 404
        assert (await client.post("/messages")).status_code == 404


async def test_a_lost_replica_leaves_no_message_unanswered(a: Site, b: Site, connect, shop: Tenant, monkeypatch):
    client, gate = await connect(), gates[shop.slug]
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, a)
        await client.at(b).post(address, json=call("wait", gate=shop.slug))
        await gate.reached.wait()
        parts = parts_of(b)
        with anyio.fail_after(5):
            while not next(iter(parts.calls.running)).is_registered:
                await anyio.lowlevel.checkpoint()
        await b.runtime.redis.delete(f"mercato:{{replicas}}:{parts.replica.name}")
        await b.runtime.redis.publish("mercato:sessions", f"lost {parts.replica.name}")
        assert "was lost" in (await stream.message())["error"]["message"]
        gate.opened.set()


async def test_entries_that_are_too_long_to_be_shown_are_read_by_the_replica_that_writes_them(
    a: Site, b: Site, c: Site, connect, bounds
):
    bounds(longest_shown_bytes=20)
    client = await connect()
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, b, c)
        for number, site in enumerate((b, c, a, b), 1):
            await client.at(site).post(address, json=call("echo", number, text="x" * 100))
            assert (await stream.message())["id"] == number


async def test_a_stream_that_nobody_can_come_back_to_keeps_its_latest_entries_only(a: Site, b: Site, connect, bounds):
    bounds(most_entries_of_sse=3)
    client = await connect()
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, b)
        for number in range(8):
            await client.at(b).post(address, json=call("echo", number, text=str(number)))
            assert (await stream.message())["id"] == number
        [key] = [key async for key in a.runtime.redis.scan_iter(f"*{address.partition('session_id=')[2]}*:st:g")]
        assert await a.runtime.redis.xlen(key) <= 3


async def test_calls_of_tools_that_there_are_not_are_bounded_here_too(a: Site, b: Site, connect, shop: Tenant):
    await set_limit(a.runtime.database, shop.id, "lists", 5)
    await a.runtime.changes.publish(Change("access", shop.id))
    client = await connect()
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, b)
        statuses = []
        for number in range(8):
            answer = await client.at(b).post(address, json=call("no_such_tool", number))
            statuses.append(answer.status_code)
        await client.at(b).post(address, json=call("echo", 99, text="fine"))
    assert statuses[0] == 202
    assert statuses[-1] == 429
