"""What an attacker's audit of the endpoint found, each with the way in which it was tried."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import anyio
import orjson
import pytest
from sqlmodel import select

from mercato.server.changes import Change
from mercato.server.connection import MOST_PIPELINED
from mercato.server.mcp import exchange as lane_exchange
from mercato.server.mcp.exchange import Exchange
from mercato.tenancy.limits import set_limit
from mercato.tenancy.rows import utc_now
from mercato.tenancy.usage import UsageRecord
from mercato.tools import arguments
from tests.server.conftest import ENVELOPE, HELLO, envelope, modern, shake_hands

LEGACY = {"mcp-protocol-version": "2025-11-25"}


@pytest.fixture
async def client(site, acme):
    async with site.client(await site.key(acme)) as opened:
        await modern(opened, "tools/list")  # the server knows its key from now on
        yield opened


@pytest.fixture
async def session(client):
    return {**LEGACY, "mcp-session-id": await shake_hands(client)}


def call(name, **other):
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}, **other}


def callers_of(site, tenant):
    kept = site.runtime.directory._callers._entries.values()
    return [caller for _, caller in kept if caller.access.tenant.id == tenant.id]


@pytest.mark.parametrize("name", ["tools/list 2026-07-28", "server/discover"])
async def test_a_tool_that_is_called_like_something_that_is_kept_for_a_caller_is_unknown(client, name):
    await modern(client, "tools/list")
    await modern(client, "server/discover")
    response = await modern(client, "tools/call", {"name": name})
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32602)


async def test_a_list_is_not_kept_once_for_each_address_it_was_asked_for_at(site, acme, client):
    for path in ("/mcp/x/probe", "/mcp/x/probe,probe"):
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": ENVELOPE}}
        for _ in range(2):
            await client.post(
                path, json=body, headers={"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
            )
    kept = [value for caller in callers_of(site, acme) for value in caller.memo.values()]
    assert kept
    assert not [value for value in kept if isinstance(value, bytes)]


async def test_long_envelopes_are_answered_and_not_kept(site, client):
    before = len(site.app.lane._reader._envelopes)
    response = await modern(client, "tools/list", {"_meta": {"com.example/own": "x" * 50_000}})
    assert "tools" in response.json()["result"]
    assert len(site.app.lane._reader._envelopes) == before


async def test_hosts_that_nobody_knows_are_not_kept(site, client):
    response = await client.post("/mcp", json=call("echo"), headers={"host": "evil.example"})
    assert response.status_code == 421
    assert b"evil.example" not in site.app.lane._known_hosts


async def test_a_cancellation_that_is_heard_as_its_call_ends_takes_no_answer_away(site, client, session, monkeypatch):
    calls, answer = site.app.state.served.legacy.calls, Exchange.send_result

    async def answer_while_cancelled(exchange, body):
        asyncio.get_running_loop().call_soon(calls.cancel_here, session["mcp-session-id"], b"1")
        await answer(exchange, body)

    monkeypatch.setattr(Exchange, "send_result", answer_while_cancelled)
    response = await client.post("/mcp", json=call("change"), headers=session)
    assert response.json()["result"]["structuredContent"] == {"text": "changed"}


async def test_a_handshake_that_is_too_long_to_be_kept_is_refused(client):
    hello = {**HELLO, "capabilities": {"experimental": {f"k{number}": {} for number in range(4_000)}}}
    body = {"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": hello}
    response = await client.post("/mcp", json=body)
    assert (response.status_code, response.json()["id"]) == (413, 7)
    assert "mcp-session-id" not in response.headers


async def test_a_uri_that_is_too_long_to_be_kept_cannot_be_subscribed_to(client, session):
    params = {"uri": "probe://letters/" + "x" * 3_000}
    body = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": params}
    assert "2,000 characters" in (await client.post("/mcp", json=body, headers=session)).json()["error"]["message"]


async def test_a_cancellation_of_what_can_be_no_request_is_not_kept(site, client, session):
    params = {"requestId": "x" * 5_000}
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    assert (await client.post("/mcp", json=body, headers=session)).status_code == 202
    pattern = f"mercato:s:{{{session['mcp-session-id']}}}:cancelled:*"
    assert [key async for key in site.runtime.redis.scan_iter(pattern)] == []


async def connected(site):
    parts = urlsplit(site.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def test_who_sends_requests_without_reading_answers_loses_the_connection(site):
    reader, writer = await connected(site)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" * (MOST_PIPELINED * 10))
    with anyio.fail_after(5):
        try:
            answered = await reader.read()
        except ConnectionResetError:
            answered = b""
    assert answered.count(b"HTTP/1.1 200") <= MOST_PIPELINED
    writer.close()


async def test_requests_sent_together_are_all_answered_where_they_are_few(site):
    reader, writer = await connected(site)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" * MOST_PIPELINED)
    answered = b""
    with anyio.fail_after(5):
        while answered.count(b'{"status":"ok"}') < MOST_PIPELINED:
            answered += await reader.read(65_536)
    writer.close()


async def test_a_stream_ends_with_its_connection_although_another_request_waits_behind_it(site, acme, client):
    listening, key = site.app.state.served.listening, client.headers["authorization"]
    body = orjson.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "subscriptions/listen",
            "params": {"notifications": {"toolsListChanged": True}, "_meta": ENVELOPE},
        }
    )
    head = (
        f"POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: {key}\r\ncontent-type: application/json\r\n"
        "accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\n"
        f"mcp-method: subscriptions/listen\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    reader, writer = await connected(site)
    writer.write(head.encode() + body)
    assert b"200 OK" in await reader.readline()
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await writer.drain()
    writer.transport.abort()
    with anyio.fail_after(10):
        while streams := list(listening._of_tenant.get(acme.id, ())):
            streams[0].write(b": ping\r\n\r\n")  # what it does every 15 s: who is not read from tells nothing else
            await anyio.lowlevel.checkpoint()


async def test_small_parts_in_great_number_are_refused_before_they_are_read(client):
    body = b"[" * 50_001
    response = await client.post("/mcp", content=body)
    assert "50,000 objects and lists" in response.json()["error"]["message"]
    assert (await client.post("/mcp", content=body[1:])).json()["error"]["message"] == "The body is not JSON."


@pytest.fixture
async def few_lists(site, acme):
    """Let Acme have only three lists a minute, and what counts like one."""
    await set_limit(site.runtime.database, acme.id, "lists", 3)
    await site.runtime.changes.publish(Change("access", acme.id))


async def test_calls_that_are_refused_are_free_but_bounded(site, acme, few_lists):
    async with site.client(await site.key(acme)) as client:
        answers = [await modern(client, "tools/call", {"name": "no_such_tool"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [400, 400, 400, 429]
        assert (await modern(client, "tools/call", {"name": "echo"})).status_code == 200


@pytest.mark.parametrize("method", ["initialize", "logging/setLevel", "resources/subscribe", "no/such/method"])
async def test_what_is_no_call_is_free_but_bounded(site, acme, few_lists, method):
    async with site.client(await site.key(acme)) as client:
        session = {**LEGACY, "mcp-session-id": await shake_hands(client)}
        params = HELLO if method == "initialize" else {"level": "info", "uri": "probe://thing"}
        body = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
        answers = [await client.post("/mcp", json=body, headers=session) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert (await client.post("/mcp", json={**body, "method": "ping"}, headers=session)).status_code == 200


@contextmanager
def before_asking(site, act):
    """Do something in the tool `ask_name`, before it asks."""
    tool = site.runtime.catalog.tools["ask_name"]
    asks = tool.function

    async def act_and_ask(ctx):
        await act(ctx)
        return await asks(ctx)

    object.__setattr__(tool, "function", act_and_ask)
    try:
        yield
    finally:
        object.__setattr__(tool, "function", asks)


@pytest.fixture
def recorded(site, acme):
    """What the ledger has of a column."""

    async def read(column):
        await site.runtime.usage.flush()
        async with site.runtime.database.tenant(acme.id, read_only=True) as db:
            return [value for (value,) in await db.rows(select(column))]

    return read


async def test_a_session_that_a_modern_request_makes_up_is_not_written_down(client, recorded):
    await modern(client, "tools/call", {"name": "echo"})
    client.headers["mcp-session-id"] = "made-up"
    await modern(client, "tools/call", {"name": "echo"})
    assert await recorded(UsageRecord.session_id) == [None, None]


async def test_what_was_spent_before_a_question_is_written_down(site, acme, client, recorded):
    with before_asking(site, lambda ctx: ctx.spend(5)):
        asked = await modern(client, "tools/call", {"name": "ask_name"}, elicitation={})
    assert asked.json()["result"]["resultType"] == "input_required"
    (cost,) = await recorded(UsageRecord.cost_cents)
    today = utc_now().astimezone(ZoneInfo(acme.timezone)).date().isoformat()
    assert cost == await site.runtime.limiter.spent(acme.id, today)


async def test_a_question_that_comes_after_the_answer_has_begun_is_written_down(client, site, recorded, monkeypatch):
    monkeypatch.setattr(lane_exchange, "STREAM_AFTER_S", 0.01)
    begun = anyio.Event()
    body, headers = envelope("tools/call", {"name": "ask_name"}, elicitation={})
    with before_asking(site, lambda ctx: begun.wait()):
        async with client.stream("POST", "/mcp", json=body, headers=headers) as response:
            lines = response.aiter_lines()
            assert await anext(lines) == ": ping"
            begun.set()
            text = "".join([line async for line in lines if line.startswith("data:")])
    assert "Call again" in text
    assert await recorded(UsageRecord.outcome) == ["question_too_late"]


async def test_a_listener_that_wants_to_hear_of_too_much_is_refused(site, acme, client):
    wanted = {"resourceSubscriptions": [f"probe://letters/{number:01000}" for number in range(40)]}
    refused = await modern(client, "subscriptions/listen", {"notifications": wanted})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32602)
    assert acme.id not in site.app.state.served.listening._of_tenant


async def test_the_lane_refuses_an_id_that_the_application_refuses(client, session):
    body = call("echo") | {"id": "x" * 300}
    lane = await client.post("/mcp", json=body, headers=session)
    slow = await client.post("/mcp?surface=full", json=body, headers=session)
    assert (lane.status_code, slow.status_code) == (400, 400)
    assert "256 bytes" in lane.json()["error"]["message"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"id": "x" * 90_000}, "256 bytes"),
        ({"params": {"notifications": {"resourceSubscriptions": [""] * 10_000}}}, "1,000 resources"),
        ({"params": {"notifications": {"resourceSubscriptions": [""] * 30_000}}}, "20,000 values"),
        ({"params": {"notifications": {"resourceSubscriptions": ["x" * 40_000]}}}, "characters together"),
    ],
)
async def test_a_listener_that_would_be_dear_to_keep_is_refused(client, changed, said):
    listening = {"notifications": {"toolsListChanged": True}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": listening} | changed
    body["params"]["_meta"] = ENVELOPE
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
    async with client.stream("POST", "/mcp", json=body, headers=headers) as answer:
        text = (await answer.aread()).decode()
    assert (answer.status_code, said in text) == (400, True), text


@pytest.mark.parametrize("path", ["/mcp", "/mcp?surface=full"])
async def test_listening_counts_as_lists_do(site, acme, few_lists, path):
    body = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"notifications": {}}}
    body["params"]["_meta"] = ENVELOPE
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
    statuses = []
    async with site.client(await site.key(acme)) as client:
        await modern(client, "tools/call", {"name": "echo"})
        for _ in range(4):
            async with client.stream("POST", path, json=body, headers=headers) as answer:
                statuses.append(answer.status_code)
    assert statuses == [200, 200, 200, 429]


async def test_many_values_are_refused_before_anybody_looks_at_each(client, monkeypatch):
    look = arguments._unstorable

    def look_at_little(value, path=""):  # it takes its time: that arguments are wrong is no reason to call it
        assert len(orjson.dumps(value)) < 10_000
        return look(value, path)

    monkeypatch.setattr(arguments, "_unstorable", look_at_little)
    few, many = ({"name": "echo", "arguments": {"text": [1] * count}} for count in (15_000, 25_000))
    answered = await modern(client, "tools/call", few)
    assert answered.json()["result"]["_meta"]["mercato/error"]["code"] == "invalid_arguments"
    refused = await modern(client, "tools/call", many)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "A message may have at most 20,000 values."


NAMING = [("resources/read", "uri"), ("prompts/get", "name"), ("tools/call", "name")]


@pytest.mark.parametrize(("method", "name"), NAMING)
async def test_what_is_named_in_an_answer_has_a_bound(client, method, name):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {name: "\x7f" * 2_001, "_meta": ENVELOPE}}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    response = await client.post("/mcp", json=body, headers=headers)
    assert (response.status_code, len(response.content) < 500) == (400, True)
    assert "2,000 characters" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["streams", "sessions"])
async def test_what_begins_together_keeps_to_the_bound(site, client, kind, monkeypatch):
    monkeypatch.setattr(site.app.state.served.legacy._parts.bounds, f"most_{kind}", 3)
    if kind == "sessions":
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
        answers = await asyncio.gather(*(client.post("/mcp", json=body) for _ in range(40)))
        begun = sum(answer.status_code == 200 for answer in answers)
    else:
        address, key = urlsplit(site.url), client.headers["authorization"]
        pairs = [await asyncio.open_connection(address.hostname, address.port) for _ in range(40)]
        head = f"GET /sse HTTP/1.1\r\nhost: localhost\r\nauthorization: {key}\r\naccept: text/event-stream\r\n\r\n"
        for _, writer in pairs:
            writer.write(head.encode())
        with anyio.fail_after(20):
            lines = await asyncio.gather(*(reader.readline() for reader, _ in pairs))
        begun = sum(b"200" in line for line in lines)
        for _, writer in pairs:
            writer.close()
    assert 1 <= begun <= 3


async def test_a_handshake_of_many_small_parts_is_refused(client):
    capabilities = {"experimental": {format(number, "x"): {} for number in range(1_000)}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {**HELLO, "capabilities": capabilities}}
    response = await client.post("/mcp", json=body)
    assert (response.status_code, "500 values" in response.text) == (413, True)
