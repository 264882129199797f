"""MCP on a pair of streams, as over stdio: what the handshake era can do there."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import pytest
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCResponse, jsonrpc_message_adapter

from mercato.server.changes import Change
from mercato.server.mcp.pipes import Lines, open_pipes
from mercato.server.mcp.terminal import serve_streams
from mercato.tenancy.grants import disable_tool
from mercato.tenancy.tenants import Tenant
from tests.server import probe
from tests.server.conftest import Site


class Wire:
    """A client that speaks plain messages."""

    def __init__(self, read: Any, write: Any) -> None:
        self._read, self._write = read, write

    async def send(self, method: str, params: dict[str, Any] | None = None, request_id: int | None = None) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        if request_id is not None:
            message["id"] = request_id
        await self._write.send(SessionMessage(jsonrpc_message_adapter.validate_python(message)))

    async def answer(self, request_id: Any, result: dict[str, Any]) -> None:
        message = {"jsonrpc": "2.0", "id": request_id, "result": result}
        await self._write.send(SessionMessage(jsonrpc_message_adapter.validate_python(message)))

    async def next(self) -> dict[str, Any]:
        with anyio.fail_after(10):
            message: dict[str, Any] = (await self._read.receive()).message.model_dump(by_alias=True, exclude_none=True)
            return message


@asynccontextmanager
async def opened(site: Site, tenant: Tenant, **capabilities: Any) -> AsyncIterator[Wire]:
    async with create_client_server_memory_streams() as (client, server), anyio.create_task_group() as group:
        group.start_soon(serve_streams, site.runtime, tenant, *server)
        wire = Wire(*client)
        hello = {"protocolVersion": "2025-11-25", "clientInfo": {"name": "tests", "version": "1"}}
        await wire.send("initialize", {**hello, "capabilities": capabilities}, 1)
        result = (await wire.next())["result"]
        assert result["capabilities"]["tools"] == {"listChanged": True}
        await wire.send("notifications/initialized")
        await wire.send("ping", {}, 2)  # answered after the notification was taken in
        assert (await wire.next())["result"] == {}
        yield wire
        group.cancel_scope.cancel()


async def test_a_cancelled_call_is_cancelled(site: Site, acme: Tenant):
    probe.log.__init__()
    async with opened(site, acme) as wire:
        await wire.send("tools/call", {"name": "wait_for_ever"}, 3)
        with anyio.fail_after(10):
            await probe.log.started.wait()
            await wire.send("notifications/cancelled", {"requestId": 3})
            await probe.log.cancelled.wait()


async def test_a_toggle_is_told_to_the_client(site: Site, acme: Tenant):
    async with opened(site, acme) as wire:
        async with site.runtime.database.tenant(acme.id) as db:
            await disable_tool(db, "echo")
        await site.runtime.changes.publish(Change("access", acme.id))
        methods = {(await wire.next())["method"] for _ in range(3)}
        await wire.send("tools/list", {}, 3)
        tools = (await wire.next())["result"]["tools"]
    assert "notifications/tools/list_changed" in methods
    assert "echo" not in {tool["name"] for tool in tools}


async def test_a_subscriber_is_told_of_what_it_subscribed_to_until_it_ends_that(site: Site, acme: Tenant):
    async with opened(site, acme) as wire:
        await wire.send("resources/subscribe", {"uri": "probe://thing"}, 3)
        assert "result" in await wire.next()
        await wire.send("tools/call", {"name": "change"}, 4)
        told = [await wire.next() for _ in range(2)]
        await wire.send("resources/unsubscribe", {"uri": "probe://thing"}, 5)
        await wire.next()
        await wire.send("tools/call", {"name": "change"}, 6)
        await wire.send("ping", {}, 7)
        quiet = [await wire.next() for _ in range(2)]
    assert {"uri": "probe://thing"} in [message.get("params") for message in told]
    assert not [message for message in quiet if message.get("method") == "notifications/resources/updated"]


async def test_a_subscription_to_what_is_not_there_is_refused(site: Site, acme: Tenant):
    async with opened(site, acme) as wire:
        await wire.send("resources/subscribe", {"uri": "probe://nothing"}, 3)
        assert (await wire.next())["error"]["code"] == -32002


@pytest.mark.parametrize(("action", "expected"), [("accept", "wiped all"), ("decline", "declined")])
async def test_a_destructive_tool_asks_the_person(site: Site, acme: Tenant, action: str, expected: str):
    async with opened(site, acme, elicitation={}) as wire:
        await wire.send("tools/call", {"name": "wipe", "arguments": {"what": "all"}}, 3)
        question = await wire.next()
        assert question["method"] == "elicitation/create"
        content = {"content": {"confirm": True}} if action == "accept" else {}
        await wire.answer(question["id"], {"action": action, **content})
        result = (await wire.next())["result"]
    assert expected in result["content"][0]["text"]


def test_a_line_that_is_too_long_is_left_out_and_only_that():
    lines = Lines(most=5)
    fed = [*lines.feed(b"12345\n123456\n\n1234"), *lines.feed(b"56"), *lines.feed(b"7890\n1"), *lines.feed(b"2\n12")]
    assert fed == [b"12345", None, b"", None, b"12"]
    assert [*lines.end(), *lines.end()] == [b"12"]


async def test_an_answer_that_cannot_be_a_line_is_an_error_and_the_next_is_sent():
    source, theirs = os.pipe()
    ours, sink = os.pipe()
    unsendable = {"text": "\ud800"}
    async with open_pipes(source, sink, max_line_bytes=100) as (_, write):
        await write.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result=unsendable)))
        await write.send(
            SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="notifications/x", params=unsendable))
        )
        await write.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=2, result={})))
        os.close(theirs)
    os.close(sink)
    with os.fdopen(ours) as file:
        broken, good = [json.loads(line) for line in file]
    os.close(source)
    assert (broken["id"], broken["error"]["code"]) == (1, -32603)
    assert good == {"jsonrpc": "2.0", "id": 2, "result": {}}


async def test_a_client_that_reads_no_answers_is_read_no_further():
    source, theirs = os.pipe()
    ours, sink = os.pipe()
    os.set_blocking(theirs, False)
    taken = 0
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode() + b"\n"
    async with open_pipes(source, sink, max_line_bytes=100) as (read, write), anyio.create_task_group() as group:

        async def answer():
            await write.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "x" * 10_000})))

        async def serve():
            nonlocal taken
            async for _ in read:
                taken += 1
                group.start_soon(answer)

        async def send():
            while True:
                with suppress(BlockingIOError):
                    os.write(theirs, ping * 100)
                await anyio.lowlevel.checkpoint()

        group.start_soon(serve)
        group.start_soon(send)
        with anyio.fail_after(20):
            while taken < 64:
                await anyio.lowlevel.checkpoint()
        for _ in range(2_000):  # a thousand more would have come in this time
            await anyio.lowlevel.checkpoint()
        unread = taken
        group.start_soon(partial(anyio.to_thread.run_sync, partial(_read_all, ours), abandon_on_cancel=True))
        with anyio.fail_after(20):
            while taken < 1_000:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    for end in (source, theirs, sink):
        os.close(end)
    assert unread < 150


def _read_all(end: int) -> None:
    with os.fdopen(end, "rb") as file:
        while file.read(65_536):
            pass
