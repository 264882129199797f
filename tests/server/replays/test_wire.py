"""Over HTTP, in both eras: the connection is cut between the commit and the answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import anyio
import orjson
import pytest
from sqlmodel import col, select

from mercato.tenancy import database
from mercato.tenancy.audit import AuditEntry
from tests.server.conftest import envelope

ERAS = ["modern", "modern by the SDK", "legacy"]
CALLS = {
    "change": {"name": "change", "arguments": {}},
    "update_tenant_config": {
        "name": "update_tenant_config",
        "arguments": {"section": "profile", "settings": {"currency": "EUR"}},
    },
}


@pytest.fixture
async def shop(site, new_tenant):
    return await new_tenant(site.runtime)


@pytest.fixture
async def key(site, shop):
    """A key that the server knows already, as it does while a client is at work."""
    key = await site.key(shop)
    await ask(site, key, *envelope("tools/list"))
    return key


@pytest.fixture
def writes(site, shop):
    """How many entries the tenant's audit has, but for its own beginning."""

    async def count():
        async with site.runtime.database.tenant(shop.id) as db:
            return len(await db.rows(select(AuditEntry).where(col(AuditEntry.action) != "tenant.create")))

    return count


@pytest.fixture
def after_commit(shop, monkeypatch):
    """Do something once, right after the next commit of the tenant."""
    acts, commit = [], database._TenantAsyncSession.commit_all

    async def commit_and_act(session):
        await commit(session)
        if session.info["tenant_id"] == shop.id and acts:
            await acts.pop()()

    monkeypatch.setattr(database._TenantAsyncSession, "commit_all", commit_and_act)
    return acts.append


async def session_headers(site, key):
    """Open a session of the handshake era."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    async with site.client(key) as client:
        answer = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        headers = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        await client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
    return headers


def message(era, params, number, **meta):
    """The body and the headers of one call. With a progress token, no call is plain enough for the fast lane."""
    if era == "modern by the SDK":
        meta["progressToken"] = number
    params = {**params, **({"_meta": meta} if meta else {})}
    if era != "legacy":
        return envelope("tools/call", params)
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}, {}


@contextlib.asynccontextmanager
async def raw(site, key, body, headers):
    """Send a request by hand; yields the socket, so that it can be cut."""
    host, port = site.url.removeprefix("http://").split(":")
    text = orjson.dumps(body)
    given = {
        "host": f"{host}:{port}",
        "authorization": f"Bearer {key}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "content-length": str(len(text)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    with socket.create_connection((host, int(port))) as connection:
        connection.setblocking(False)
        yield connection, f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + text


def cut(connection):
    """Reset a connection, as a network does that goes away."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def ask(site, key, body, headers):
    async with site.client(key) as client:
        answer = await client.post("/mcp", json=body, headers=headers)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return orjson.loads(lines[-1] if lines else answer.text)["result"]


@pytest.mark.parametrize("tool", CALLS)
@pytest.mark.parametrize("era", ERAS)
async def test_a_write_whose_connection_is_cut_after_the_commit_has_one_effect(
    site, shop, key, writes, after_commit, era, tool
):
    session = await session_headers(site, key) if era == "legacy" else {}
    body, headers = message(era, CALLS[tool], 1)
    committed = asyncio.Event()
    async with raw(site, key, body, {**headers, **session}) as (connection, request):

        async def cut_it():
            cut(connection)
            committed.set()
            await asyncio.wait([asyncio.create_task(anyio.wait_all_tasks_blocked())], timeout=0.1)

        after_commit(cut_it)
        await asyncio.get_running_loop().sock_sendall(connection, request)
        with anyio.fail_after(10):
            await committed.wait()
    body, headers = message(era, CALLS[tool], 2)
    again = await ask(site, key, body, {**headers, **session})
    assert "mercato/replayed" in again["_meta"]
    assert again["isError"] is False
    assert await writes() == 1


@pytest.mark.parametrize("era", ERAS)
async def test_two_equal_writes_that_are_answered_both_run(site, shop, key, writes, era):
    session = await session_headers(site, key) if era == "legacy" else {}
    for number in (1, 2, 3):
        body, headers = message(era, CALLS["change"], number)
        answer = await ask(site, key, body, {**headers, **session})
        assert "mercato/replayed" not in answer.get("_meta", {})
    assert await writes() == 3


@pytest.mark.parametrize("era", ERAS)
async def test_a_key_in_the_request_repeats_the_first_answer(site, shop, key, writes, era):
    session, answers = await session_headers(site, key) if era == "legacy" else {}, []
    for number, tool in [(1, "change"), (2, "change"), (3, "update_tenant_config")]:
        body, headers = message(era, CALLS[tool], number, **{"mercato/idempotency-key": "k"})
        answers.append(await ask(site, key, body, {**headers, **session}))
    first, again, refused = answers
    assert again["structuredContent"] == first["structuredContent"]
    assert "mercato/replayed" in again["_meta"]
    assert refused["_meta"]["mercato/error"]["code"] == "idempotency_key_reused"
    assert await writes() == 1


async def test_a_request_state_that_is_used_again_has_no_second_effect(site, shop, key, writes):
    params = {"name": "wipe", "arguments": {"what": "it"}}
    asked = await ask(site, key, *envelope("tools/call", params, elicitation={"form": {}}))
    [question] = asked["inputRequests"]
    agreed = {question: {"action": "accept", "content": {"confirm": True}}}
    params |= {"requestState": asked["requestState"], "inputResponses": agreed}
    first, again = [await ask(site, key, *envelope("tools/call", params, elicitation={"form": {}})) for _ in range(2)]
    assert "mercato/replayed" not in first["_meta"]
    assert "mercato/replayed" in again["_meta"]
    assert again["structuredContent"] == first["structuredContent"]
    assert await writes() == 1
