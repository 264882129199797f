"""The fast lane and the SDK's way answer alike: the same messages go both ways, and nobody could tell which."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mercato.server.changes import Change
from mercato.server.heads import KNOWN_HEAD, KnownHead
from mercato.tenancy.limits import set_limit
from tests.server.conftest import ENVELOPE, Site, modern, shake_hands

PLENTY = 10_000_000
MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"


@dataclass
class Sent:
    """A request as ASGI has it."""

    headers: list[tuple[bytes, bytes]]
    body: bytes
    query: bytes = b""
    path: str = "/mcp"
    chunks: int = 1


@dataclass
class Got:
    """An answer, with nothing in it that differs from one request to the next."""

    status: int
    headers: dict[str, str]
    body: Any
    by_the_lane: bool = field(default=False, compare=False)


HEADS: dict[tuple[Any, ...], KnownHead] = {}
"""The heads that were sent before, as a server keeps them."""


def head_of(sent: Sent) -> KnownHead | None:
    """Return the head of a request as one that is known, with all that was worked out of it the last time."""
    names = [name for name, _ in sent.headers]
    if names.count(b"content-length") != 1 or dict(sent.headers)[b"content-length"] != str(len(sent.body)).encode():
        return None
    place = names.index(b"content-length")
    key = (sent.path, sent.query, place, *(pair for pair in sent.headers if pair[0] != b"content-length"))
    return HEADS.setdefault(key, KnownHead(scope_of(sent), place))


async def ask(site: Site, sent: Sent, *, lane: bool, head: KnownHead | None = None) -> Got:
    app, lane_of_app, used = site.app, site.app.lane, []

    async def lane_that_tells(scope, receive, send):
        used.append("lane")
        await lane_of_app(scope, receive, send)

    messages: list[dict[str, Any]] = []
    piece = max(1, -(-len(sent.body) // sent.chunks))
    pieces = [sent.body[start : start + piece] for start in range(0, len(sent.body), piece)] or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(pieces) - 1}
        for number, part in enumerate(pieces)
    ]
    over = asyncio.Event()

    async def receive():
        if waiting:
            return waiting.pop(0)
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            over.set()

    async def passed_on(scope, receive, send):
        used.append("application")
        await passing(scope, receive, send)

    scope = scope_of(sent) if head is None else {**scope_of(sent), KNOWN_HEAD: head}
    passing = lane_of_app._app
    lane_of_app._app = passed_on
    app.lane = lane_that_tells if lane else None
    try:
        await asyncio.wait_for(app(scope, receive, send), 20)
    finally:
        lane_of_app._app, app.lane = passing, lane_of_app
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return got(messages[0]["status"], messages[0]["headers"], body, by_the_lane=used == ["lane"])


def ask_at_once(site: Site, sent: Sent) -> Got | None:
    """Ask as a connection does with a request that came in one piece; None where that gives no answer."""
    answers: list[Got] = []

    def answer(scope, status, lines, pieces, length, *, later):
        assert not later  # there is no loop to have a turn
        assert length == sum(map(len, pieces))
        headers = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n")[:-1]]
        answers.append(got(status, headers, b"".join(pieces), by_the_lane=True))
        return True

    scope = {**scope_of(sent), "extensions": {"mercato.answer": answer}}
    assert site.app.at_once(scope, sent.body) is bool(answers)
    return answers[0] if answers else None


def scope_of(sent: Sent) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": sent.path, "raw_path": sent.path.encode(), "query_string": sent.query, "root_path": "",
        "headers": list(sent.headers), "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 1), "state": {},
    }  # fmt: skip


def got(status: int, told: list[tuple[bytes, bytes]], body: bytes, *, by_the_lane: bool) -> Got:
    headers = {name.decode(): value.decode() for name, value in told}
    assert headers.pop("x-request-id")
    # Both say their length; the SDK escapes what is not ASCII, which the lane sends as it is.
    if "content-length" in headers:
        assert int(headers.pop("content-length")) == len(body)
    return Got(status, headers, _read(body), by_the_lane)


def _read(body):
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    error = read.get("result", {}).get("_meta", {}).get("mercato/error") if isinstance(read, dict) else None
    if error and "reference" in error:
        error["reference"] = "…"
        read["result"]["content"][0]["text"] = "…"
    return read


async def both_ways(site: Site, sent: Sent) -> Got:
    """Send it both ways; return the answer, and whether the lane gave it."""
    fast, slow = await ask(site, sent, lane=True), await ask(site, sent, lane=False)
    assert fast == slow
    if (head := head_of(sent)) is not None:
        assert await ask(site, sent, lane=True, head=head) == slow
    if (first := ask_at_once(site, sent)) is not None:
        assert first == slow
    return fast


def request_of(
    key: str, method: str, params: dict[str, Any] | None, *, version: str, session: str | None = None, **other: Any
) -> Sent:
    modern_era = version == MODERN
    params = copy.deepcopy(params)
    if modern_era and params is not None:
        params["_meta"] = {**ENVELOPE, **params.get("_meta", {})}
    message = {"jsonrpc": "2.0", "id": other.get("id", 1), "method": method}
    if params is not None:
        message["params"] = params
    body = json.dumps(message).encode()  # also whole numbers of more than 64 bits
    headers = [
        (b"host", b"127.0.0.1:1"), (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"), (b"content-length", str(len(body)).encode()),
        (b"authorization", b"Bearer " + key.encode()), (b"mcp-protocol-version", version.encode()),
    ]  # fmt: skip
    if modern_era:
        headers.append((b"mcp-method", method.encode()))
        if isinstance(params, dict) and isinstance(params.get("name"), str):
            headers.append((b"mcp-name", params["name"].encode()))
    if session is not None:
        headers.append((b"mcp-session-id", session.encode()))
    return Sent(headers, body)


@pytest.fixture
async def client_of_acme(site, acme):
    """A key of Acme with room for thousands of calls, known to the server, and a session of it."""
    for name in ("tenant", "caller", "read", "write", "lists"):
        await set_limit(site.runtime.database, acme.id, name, PLENTY)
    await site.runtime.changes.publish(Change("access", acme.id))
    key = await site.key(acme)
    async with site.client(key) as client:
        await modern(client, "tools/list")
        session = await shake_hands(client)
        yield key, session


CALLS = [
    ("tools/call", {"name": "echo", "arguments": {"text": "Zürich ✓ \"quoted\" \\ \n"}}),
    ("tools/call", {"name": "echo", "arguments": {}}),
    ("tools/call", {"name": "echo"}),
    ("tools/call", {"name": "echo", "arguments": {"text": 7}}),
    ("tools/call", {"name": "echo", "arguments": {"text": "x", "more": 1}}),
    ("tools/call", {"name": "echo", "arguments": {"text": "nul \u0000"}}),
    ("tools/call", {"name": "refuse", "arguments": {}}),
    ("tools/call", {"name": "break_down", "arguments": {}}),
    ("tools/call", {"name": "administer", "arguments": {}}),
    ("tools/call", {"name": "change", "arguments": {}}),
    ("tools/list", {}),
]  # fmt: skip
OTHERS = [
    ("tools/call", {"name": "no_such_tool", "arguments": {}}),
    ("tools/call", {"name": "count_shop", "arguments": {}}),
    ("tools/call", {"name": "echo", "arguments": []}),
    ("tools/call", {"arguments": {}}),
    ("tools/list", {"cursor": "x"}),
    ("tools/call", None),
    ("prompts/list", {}),
    ("no/such/method", {}),
]


@pytest.mark.parametrize("version", [MODERN, HANDSHAKE])
@pytest.mark.parametrize(("method", "params"), CALLS)
async def test_plain_requests_are_answered_by_the_lane_as_by_the_sdk(site, client_of_acme, method, params, version):
    key, session = client_of_acme
    sent = request_of(key, method, params, version=version, session=None if version == MODERN else session)
    assert (await both_ways(site, sent)).by_the_lane


@pytest.mark.parametrize("version", [MODERN, HANDSHAKE])
@pytest.mark.parametrize(("method", "params"), OTHERS)
async def test_other_requests_are_left_to_the_sdk(site, client_of_acme, method, params, version):
    key, session = client_of_acme
    sent = request_of(key, method, params, version=version, session=None if version == MODERN else session)
    assert not (await both_ways(site, sent)).by_the_lane


@pytest.mark.parametrize("said", ["v999.0.0", "1999-01-01", HANDSHAKE, 7])
async def test_an_envelope_of_another_version_than_its_header_is_refused_by_the_sdk(site, client_of_acme, said):
    meta = {"io.modelcontextprotocol/protocolVersion": said}
    sent = request_of(client_of_acme[0], "server/discover", {"_meta": meta}, version=MODERN)
    for _ in range(2):
        assert not (await both_ways(site, sent)).by_the_lane


async def test_a_list_of_the_modern_era_is_answered_at_once_in_the_same_words(site, client_of_acme):
    key, session = client_of_acme
    sent = request_of(key, "tools/list", {}, version=MODERN)
    await both_ways(site, sent)
    assert ask_at_once(site, sent) is not None
    for other in ({"query": b"surface=search"}, {"path": "/mcp/readonly"}):
        await both_ways(site, replace(sent, **other))
    assert ask_at_once(site, request_of(key, "tools/list", {}, version=HANDSHAKE, session=session)) is None


@pytest.mark.parametrize(("method", "version"), [("server/discover", MODERN), ("ping", HANDSHAKE)])
async def test_what_only_one_era_has_is_answered_by_the_lane_too(site, client_of_acme, method, version):
    key, session = client_of_acme
    sent = request_of(key, method, {}, version=version, session=None if version == MODERN else session)
    assert (await both_ways(site, sent)).by_the_lane


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"[]", b"5", b"[" * 65 + b"]" * 65, b'{"jsonrpc":"1.0","id":7}', b'{"jsonrpc":"2.0","id":{}}'],
)
@pytest.mark.parametrize("version", [MODERN, HANDSHAKE])
async def test_what_is_no_message_is_refused_by_the_lane_in_the_same_words(site, client_of_acme, body, version):
    key, session = client_of_acme
    sent = request_of(key, "tools/list", {}, version=version, session=None if version == MODERN else session)
    sent.headers = [(name, b"%d" % len(body) if name == b"content-length" else value) for name, value in sent.headers]
    sent.body = body
    await ask(site, request_of(key, "tools/list", {}, version=MODERN), lane=False)  # the caller is known
    assert (await both_ways(site, sent)).by_the_lane


@pytest.mark.parametrize("path", ["/mcp/readonly", "/mcp/x/probe", "/mcp/readonly/x/probe,system"])
async def test_narrower_addresses_have_the_lane_as_well(site, client_of_acme, path):
    sent = request_of(client_of_acme[0], "tools/list", {}, version=MODERN)
    sent.path = path
    await both_ways(site, sent)
    assert (await both_ways(site, sent)).by_the_lane


async def test_a_limit_that_is_reached_is_told_alike(site, acme, client_of_acme):
    await set_limit(site.runtime.database, acme.id, "tenant", 1)
    await site.runtime.changes.publish(Change("access", acme.id))
    sent = request_of(client_of_acme[0], "tools/call", {"name": "echo"}, version=MODERN)
    await ask(site, sent, lane=False)
    fast, slow = await ask(site, sent, lane=True), await ask(site, sent, lane=False)
    for got in (fast, slow):
        waits = got.body["error"]["data"].pop("retry_after_s")
        assert int(got.headers.pop("retry-after")) == waits
        got.body["error"]["message"] = got.body["error"]["message"].replace(str(waits), "N")
    assert fast == slow
    assert (fast.status, fast.by_the_lane) == (429, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["echo", "refuse", "administer", "route", "count_shop", "nothing", "Echo", " echo", ""])
META = st.fixed_dictionaries(
    {},
    optional={
        "progressToken": st.integers(0, 9) | st.text(max_size=4),
        "io.modelcontextprotocol/clientCapabilities": st.sampled_from(
            [{}, {"elicitation": {}}, {"sampling": 1}, [], None]
        ),
        "io.modelcontextprotocol/protocolVersion": st.sampled_from([MODERN, "1999-01-01", "v999.0.0", 7]),
        "io.modelcontextprotocol/clientInfo": st.sampled_from([{"name": "x", "version": "1"}, {"name": "x"}, "x"]),
        "com.example/own": JSON,
    },
)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES | JSON,
        "arguments": st.dictionaries(st.sampled_from(["text", "other", ""]), JSON, max_size=2) | JSON,
        "_meta": META,
        "cursor": JSON,
    },
)
METHODS = st.sampled_from(
    ["tools/call", "tools/call", "tools/call", "tools/list", "server/discover", "ping", "nothing"]
)
HEADERS = [b"content-type", b"accept", b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"host", b"mcp-session-id"]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["drop", "double", "set"]),
        st.sampled_from(HEADERS),
        st.sampled_from(
            [
                b"",
                b"echo",
                b"tools/call",
                b"2026-07-28",
                b"2025-11-25",
                b"2024-11-05",
                b"application/json",
                b"*/*",
                b"text/html",
            ]
        ),
    ),
    max_size=2,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=METHODS,
    params=PARAMS,
    version=st.sampled_from([MODERN, HANDSHAKE]),
    request_id=st.integers(-5, 5) | st.text(max_size=5) | JSON,
    changes=CHANGES,
    chunks=st.integers(1, 3),
)
async def test_generated_requests_are_answered_alike(
    site, client_of_acme, method, params, version, request_id, changes, chunks
):
    key, session = client_of_acme
    sent = request_of(key, method, params, version=version, session=session, id=request_id)
    if version == MODERN:
        sent.headers = [pair for pair in sent.headers if pair[0] != b"mcp-session-id"]
    for kind, name, value in changes:
        kept = [pair for pair in sent.headers if pair[0] != name]
        if kind == "set":
            sent.headers = [*kept, (name, value)]
        elif kind == "double":
            sent.headers = [*sent.headers, (name, value)]
        else:
            sent.headers = kept
    sent.chunks = chunks
    await both_ways(site, sent)


async def test_a_body_that_is_too_long_is_refused_alike_though_its_head_is_known(site, client_of_acme):
    for text, status in (("short", 200), ("long" * 30_000, 413)):
        sent = request_of(
            client_of_acme[0], "tools/call", {"name": "echo", "arguments": {"text": text}}, version=MODERN
        )
        assert (await both_ways(site, sent)).status == status


@pytest.mark.parametrize("method", [["tools/list"], {"tools/list": 1}, None, 5])
async def test_a_method_that_is_no_text_is_refused_alike(site, client_of_acme, method):
    sent = request_of(client_of_acme[0], "tools/list", {}, version=MODERN)
    sent.body = json.dumps({**json.loads(sent.body), "method": method}).encode()
    sent.headers = [pair for pair in sent.headers if pair[0] != b"content-length"]
    sent.headers.append((b"content-length", str(len(sent.body)).encode()))
    assert (await both_ways(site, sent)).status == 400
