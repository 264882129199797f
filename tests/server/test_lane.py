"""The fast lane over real HTTP: calls that last, that ask, and whose clients leave or change their mind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import orjson
import pytest
from sqlmodel import select
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from mercato.server.changes import Change
from mercato.server.mcp.fast import FastLane
from mercato.tenancy.access import merge_settings
from mercato.tenancy.usage import UsageRecord
from tests.server import probe
from tests.server.conftest import Site, envelope, modern, raw_request, shake_hands


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call becomes a stream after a moment instead of fifteen seconds."""
    monkeypatch.setattr("mercato.server.mcp.exchange.STREAM_AFTER_S", 0.05)


@pytest.fixture
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> probe.Log:
    log = probe.Log()
    monkeypatch.setattr(probe, "log", log)
    return log


async def outcomes_of(site: Site, tenant: Any) -> list[tuple[str, str]]:
    await site.runtime.usage.flush()
    async with site.runtime.database.tenant(tenant.id, read_only=True) as db:
        rows = await db.rows(select(UsageRecord.tool, UsageRecord.outcome).order_by(UsageRecord.id))
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_call_that_lasts_becomes_a_stream_that_ends_with_its_answer(site, acme, impatient, fresh_log, era):
    async with site.client(await site.key(acme)) as client:
        body, headers = envelope("tools/call", {"name": "wait_until_told", "arguments": {}})
        if era == "legacy":
            headers = {"mcp-session-id": await shake_hands(client)}
            del body["params"]["_meta"]
        await modern(client, "tools/list")
        async with client.stream("POST", "/mcp", json=body, headers=headers) as response:
            assert response.headers["content-type"] == "text/event-stream"
            lines = response.aiter_lines()
            assert await anext(lines) == ": ping"
            fresh_log.told.set()
            data = [line async for line in lines if line.startswith("data: ")]
    [message] = [orjson.loads(line[6:]) for line in data]
    assert message["id"] == 1
    assert message["result"]["structuredContent"] == {"text": "told"}


async def test_a_question_leaves_the_lane_and_the_call_still_counts_once(site, acme):
    async with site.client(await site.key(acme)) as client:
        await modern(client, "tools/list")
        asked = (await modern(client, "tools/call", {"name": "ask_name", "arguments": {}}, elicitation={})).json()
    assert asked["result"]["resultType"] == "input_required"
    assert await outcomes_of(site, acme) == [("ask_name", "input_required")]


async def test_a_modern_client_that_leaves_cancels_its_call(site, acme, fresh_log):
    async with site.client(await site.key(acme)) as client:
        await modern(client, "tools/list")
        call = asyncio.create_task(modern(client, "tools/call", {"name": "wait_for_ever", "arguments": {}}))
        with anyio.fail_after(5):
            await fresh_log.started.wait()
            call.cancel()
            await fresh_log.cancelled.wait()
    with anyio.fail_after(5):
        while await outcomes_of(site, acme) != [("wait_for_ever", "cancelled")]:
            await anyio.lowlevel.checkpoint()


async def test_a_call_in_a_session_is_cancelled_by_a_notification_and_answered(site, acme, fresh_log):
    async with site.client(await site.key(acme)) as client:
        session = {"mcp-session-id": await shake_hands(client)}
        await modern(client, "tools/list")
        params = {"name": "wait_for_ever", "arguments": {}}
        body = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}
        call = asyncio.create_task(client.post("/mcp", json=body, headers=session))
        with anyio.fail_after(5):
            await fresh_log.started.wait()
            notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
            assert (await client.post("/mcp", json=notice, headers=session)).status_code == 202
            answer = await call
    assert answer.json() == {"jsonrpc": "2.0", "id": 5, "error": {"code": -32800, "message": "Request cancelled"}}
    assert fresh_log.cancelled.is_set()


async def test_a_call_in_a_session_goes_on_when_its_client_has_left(site, acme, fresh_log):
    async with site.client(await site.key(acme)) as client:
        session = {"mcp-session-id": await shake_hands(client)}
        await modern(client, "tools/list")
        params = {"name": "wait_until_told", "arguments": {}}
        body = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}
        call = asyncio.create_task(client.post("/mcp", json=body, headers=session))
        with anyio.fail_after(5):
            await fresh_log.started.wait()
            call.cancel()
        fresh_log.told.set()
    with anyio.fail_after(5):
        while await outcomes_of(site, acme) != [("wait_until_told", "ok")]:
            await anyio.lowlevel.checkpoint()


async def test_a_category_that_is_switched_off_is_off_at_the_very_next_call(site, acme):
    from mercato.tenancy.grants import disable_category

    async with site.client(await site.key(acme)) as client:
        for _ in range(3):
            assert (await modern(client, "tools/call", {"name": "echo"})).json()["result"]["isError"] is False
        async with site.runtime.database.tenant(acme.id) as db:
            await disable_category(db, "probe")
        await site.runtime.changes.publish(Change("access", acme.id))
        answer = (await modern(client, "tools/call", {"name": "echo"})).json()["result"]
    assert answer["isError"] is True
    assert answer["_meta"]["mercato/error"]["code"] == "switched_off"


@pytest.fixture
def at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that came in one piece was answered as it came in. No lease ends meanwhile."""
    now = site.runtime.limiter._clock()
    monkeypatch.setattr(site.runtime.limiter, "_clock", lambda: now)
    answered: list[bool] = []
    whole = FastLane.at_once

    def noted(self: FastLane, scope: Any, body: bytearray) -> bool:
        answered.append(whole(self, scope, body))
        return answered[-1]

    monkeypatch.setattr(FastLane, "at_once", noted)
    return answered


async def test_a_list_is_answered_as_its_request_comes_in(site, acme, at_once):
    async with site.client(await site.key(acme)) as client:
        looked_up = await modern(client, "tools/list")
        listed = await modern(client, "tools/list", {})
        await modern(client, "tools/call", {"name": "echo"})
        await modern(client, "tools/list", {"cursor": "x"})
    assert at_once == [False, True, False, False]
    assert (listed.status_code, listed.json()) == (200, looked_up.json())
    assert listed.headers.keys() == looked_up.headers.keys()


async def test_a_list_of_the_search_surface_is_not_answered_as_it_comes_in(site, acme, at_once):
    async with site.runtime.database.tenant(acme.id) as db:
        await merge_settings(db, "assistant", {"surface": "search"})
    await site.runtime.changes.publish(Change("access", acme.id))
    async with site.client(await site.key(acme)) as client:
        for _ in range(2):
            listed = (await modern(client, "tools/list")).json()["result"]["tools"]
    assert {tool["name"] for tool in listed} >= {"search_tools", "execute_read"}
    assert at_once == [False, False]


async def test_lists_that_come_together_or_in_pieces_are_answered_in_order(site, acme, at_once):
    key = await site.key(acme)
    async with site.client(key) as client:
        await modern(client, "tools/list")
    host, _, port = site.url.removeprefix("http://").partition(":")
    first, second, third = (raw_request(site, key, number, "tools/list") for number in (11, 12, 13))
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(first + second + third[:-5])
        await until_read(stream, b'"id":12,')
        await stream.send(third[-5:])
        rest = await until_read(stream, b'"id":13,')
    assert b"HTTP/1.1 200" in rest
    assert at_once == [False, True]  # of the others one waits behind the first, and one came in two pieces


async def until_read(stream: anyio.abc.SocketStream, text: bytes) -> bytes:
    received = b""
    with anyio.fail_after(5):
        while text not in received:
            received += await stream.receive()
    return received


@pytest.fixture
def uncollected() -> Iterator[Callable[[], int]]:
    """How many more requests are in memory than at first, with no garbage collector."""

    def kept() -> int:
        return sum(type(thing) is RequestResponseCycle for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    before = kept()
    yield lambda: kept() - before
    gc.enable()


async def test_a_request_that_was_answered_is_forgotten_without_the_garbage_collector(site, acme, uncollected):
    async with site.client(await site.key(acme)) as client:
        for _ in range(20):
            assert (await modern(client, "tools/call", {"name": "echo"})).status_code == 200
            assert (await modern(client, "tools/list")).status_code == 200
        assert uncollected() < 5


async def test_so_is_one_that_was_garbage_on_a_connection_of_its_own(site, acme, uncollected):
    key = await site.key(acme)
    _, headers = envelope("tools/list")
    for _ in range(20):
        async with site.client(key) as client:
            refused = await client.post("/mcp", content=b"garbage", headers=headers)
            assert refused.json()["error"]["code"] == -32700
    with anyio.fail_after(5):
        while uncollected() >= 5:
            await asyncio.sleep(0)
