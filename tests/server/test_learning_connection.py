"""A connection that has seen a head before: it says what it said the first time, and of no other bytes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import anyio
import anyio.abc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mercato.server.connection import LEAST_BODY_BYTES
from mercato.server.heads import KNOWN_HEAD, LONGEST_BYTES, MOST_KEPT, Heads
from tests.server.conftest import Site, listening
from tests.server.test_http import anything_within, connect, rest_of

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Sent:
    """A request as it is written, and what a server must make of it."""

    path: str
    headers: Headers
    body: bytes
    chunked: bool = False

    @property
    def raw(self) -> bytes:
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in self._all())]
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.body), self.body) if self.chunked and self.body else self.body
        return "\r\n".join([*lines, "", ""]).encode() + (body or (b"0\r\n\r\n" if self.chunked else b""))

    @property
    def seen(self) -> dict[str, object]:
        path, _, query = self.path.partition("?")
        headers = [[name.lower(), value.strip()] for name, value in self._all()]
        return {"path": path, "query": query, "headers": headers, "body": self.body.decode("latin-1")}

    def _all(self) -> Headers:
        length = ("transfer-encoding", "chunked") if self.chunked else (LENGTH, str(len(self.body)))
        return [(length if name == LENGTH else (name, value)) for name, value in self.headers]


LENGTH = "Content-Length"
PLAIN: Headers = (("Host", "a"), ("Accept", "*/*"), (LENGTH, ""), ("X-Said", "hi"))
HEADS: Sequence[Headers] = (
    PLAIN,
    (("Host", "a"), (LENGTH, "")),
    ((LENGTH, ""), ("host", "a"), ("connection", "keep-alive")),
    (("Host", "a"), ("X-Length", "3"), (LENGTH, "")),
    (("Host", "a"), (LENGTH, ""), ("X-Length", "3"), ("X-Said", "  hi \t")),
    (("Host", "a"), (LENGTH, ""), ("Expect", "100-continue")),
)


@pytest.fixture(scope="module")
async def mirror(anyio_backend: str) -> AsyncIterator[Site]:
    """A server whose application answers with what it was asked."""

    async def mirrored(request: Request) -> Response:
        if request.url.path == "/early":
            return JSONResponse("early")
        if request.url.path == "/held":
            await request.app.state.release.wait()
        if request.url.path in ("/1s", "/2s"):  # from here on the connection may lie idle for so long
            connection = request.scope["extensions"]["mercato.transport"].get_protocol()
            connection.timeout_keep_alive = int(request.url.path[1])
        seen = {
            "path": request.url.path,
            "query": request.url.query,
            "headers": [[name.decode(), value.decode()] for name, value in request.scope["headers"]],
            "body": (await request.body()).decode("latin-1"),
        }
        return JSONResponse(seen, headers={"x-known": str(KNOWN_HEAD in request.scope)})

    def make(port: int) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", mirrored, methods=["GET", "POST"])])

    async with listening(make) as opened:
        yield opened


class Answers:
    """What comes back on a connection, one answer after the other."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._received = b""
        self.was_known = False

    async def next(self) -> object:
        head = await self._until(lambda: self._received.find(b"\r\n\r\n") + 4)
        if head.startswith(b"HTTP/1.1 100 "):
            return await self.next()
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        self.was_known = b"x-known: True" in head
        return json.loads(await self._until(lambda: length if len(self._received) >= length else 3))

    async def _until(self, complete) -> bytes:
        with anyio.fail_after(20):
            while (size := complete()) <= 3:
                self._received += await self._stream.receive()
        taken, self._received = self._received[:size], self._received[size:]
        return taken


async def test_the_third_request_with_a_head_is_known_whatever_its_body(mirror: Site):
    async with await connect(mirror) as stream:
        answers, known = Answers(stream), []
        for body in (b"one", b"two and more", b"three", b"", b"5" * 5_000):
            sent = Sent("/known", PLAIN, body)
            await stream.send(sent.raw)
            assert await answers.next() == sent.seen
            known.append(answers.was_known)
    assert known == [False, False, True, True, True]


async def test_what_one_connection_learned_another_knows_from_its_first_request_on(mirror: Site):
    sent = Sent("/everywhere", PLAIN, b"body")
    for expected in (False, True):
        async with await connect(mirror) as stream:
            answers = Answers(stream)
            for _ in range(2):
                await stream.send(sent.raw)
                assert await answers.next() == sent.seen
                assert answers.was_known == expected


bodies = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([Sent("/a", PLAIN, b"x").raw, b"1" + Sent("/a", PLAIN, b"x").raw, b"\r\n\r\n"]),
)
requests = st.builds(
    Sent, st.sampled_from(["/a", "/a?b=c"]), st.sampled_from(HEADS), bodies, st.sampled_from([False] * 5 + [True])
)
steps = st.tuples(requests, st.booleans(), st.one_of(st.none(), st.just("body"), st.integers(0, 200)))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(steps, min_size=1, max_size=8))
async def test_requests_are_understood_as_they_were_sent_however_they_come(mirror: Site, steps):
    """One after the other or together, whole or cut: each is answered in its turn, for what it says."""
    await teach(mirror, Sent("/a", PLAIN, b""))
    async with await connect(mirror) as stream:
        answers, waiting, unsent = Answers(stream), [], b""
        for sent, waits, cut in steps:
            begins = len(unsent)
            unsent += sent.raw
            waiting.append(sent.seen)
            if cut is not None:
                at = begins + (sent.raw.index(b"\r\n\r\n") + 4 if cut == "body" else min(cut, len(sent.raw) - 1))
                await stream.send(unsent[:at])
                unsent = unsent[at:]
                await until_taken()
            if waits:
                await stream.send(unsent)
                unsent = b""
                for seen in waiting:
                    assert await answers.next() == seen
                waiting.clear()
        if unsent:
            await stream.send(unsent)
        for seen in waiting:
            assert await answers.next() == seen


async def until_taken() -> None:
    """Let the server, which runs in the same loop, read what was sent, that the next is not joined to it."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_the_end_of_a_body_is_no_request_though_its_head_is_known(mirror: Site):
    """Else one client could have another's request in its own, behind a proxy that shares connections."""
    trap, looks_like, own = await trap_at(mirror, "/trap")
    async with await connect(mirror) as stream:
        answers = Answers(stream)
        for _ in range(3):
            await stream.send(trap.raw[: -len(looks_like)])
            assert await anything_within(stream, 0.02) == b""
            await stream.send(looks_like + own.raw)
            assert [await answers.next(), await answers.next()] == [trap.seen, own.seen]
    async with await connect(mirror) as stream:
        answers, sent = Answers(stream), Sent("/inner", PLAIN, b"a" * len(own.raw))
        await stream.send(sent.raw)
        assert await answers.next() == sent.seen


async def test_nor_is_it_where_the_request_was_answered_before_its_end(mirror: Site):
    early, looks_like, own = await trap_at(mirror, "/early", b"a" * LEAST_BODY_BYTES)
    async with await connect(mirror) as stream:
        answers = Answers(stream)
        await stream.send(early.raw[: -len(looks_like)])
        assert await answers.next() == "early"
        await stream.send(looks_like + own.raw)
        assert await answers.next() == own.seen


async def test_a_known_request_waits_for_the_answer_of_the_one_before(mirror: Site):
    known, held = Sent("/known", PLAIN, b"x"), Sent("/held", PLAIN, b"")
    await teach(mirror, known)
    mirror.app.state.release = anyio.Event()
    async with await connect(mirror) as stream:
        answers = Answers(stream)
        await stream.send(held.raw)
        for _ in range(2):
            assert await anything_within(stream, 0.02) == b""
            await stream.send(known.raw)
        assert await anything_within(stream, 0.02) == b""
        mirror.app.state.release.set()
        assert [await answers.next() for _ in range(3)] == [held.seen, known.seen, known.seen]


async def trap_at(site: Site, path: str, begins: bytes = b"begins") -> tuple[Sent, bytes, Sent]:
    """Return a request whose body ends like a known head, that end, and what would be taken for the body below it."""
    inner, own = Sent("/inner", PLAIN, b""), Sent("/own", PLAIN, b"mine")
    await teach(site, inner)
    looks_like = inner.raw.replace(b"Content-Length: 0", b"Content-Length: %d" % len(own.raw))
    return Sent(path, PLAIN, begins + looks_like), looks_like, own


async def teach(site: Site, sent: Sent) -> None:
    """Send a request until its head is known."""
    async with await connect(site) as stream:
        answers = Answers(stream)
        while not answers.was_known:
            await stream.send(sent.raw)
            assert await answers.next() == sent.seen


async def test_a_known_head_whose_connection_ends_is_not_taken_for_another(mirror: Site):
    sent = Sent("/ends", (*PLAIN, ("Connection", "close")), b"x")
    for _ in range(3):
        async with await connect(mirror) as stream:
            await stream.send(Sent("/before", PLAIN, b"").raw)
            await Answers(stream).next()
            await stream.send(sent.raw)
            assert b"connection: close" in await rest_of(stream)


async def test_a_connection_is_kept_from_its_last_answer_on(mirror: Site):
    async with await connect(mirror) as stream:
        answers, sent = Answers(stream), Sent("/2s", PLAIN, b"")
        await stream.send(sent.raw)
        await answers.next()
        assert await anything_within(stream, 0.2) == b""
        await stream.send(sent.raw)
        await answers.next()
        began = anyio.current_time()
        assert await rest_of(stream) == b""
        assert anyio.current_time() - began > 1.9


async def test_a_connection_is_not_idle_while_it_is_answered(mirror: Site):
    short, held = Sent("/1s", PLAIN, b""), Sent("/held", PLAIN, b"")
    mirror.app.state.release = anyio.Event()
    async with await connect(mirror) as stream:
        answers = Answers(stream)
        await stream.send(short.raw)
        assert await answers.next() == short.seen
        await stream.send(held.raw)
        assert await anything_within(stream, 1.2) == b""
        mirror.app.state.release.set()
        assert await answers.next() == held.seen


REQUEST = b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
SCOPE = {
    "method": "POST", "path": "/mcp", "raw_path": b"/mcp", "query_string": b"", "http_version": "1.1",
    "headers": [(b"host", b"a"), (b"content-length", b"2")],
}  # fmt: skip


def test_a_head_is_found_by_all_its_bytes_but_the_length():
    heads = Heads()
    heads.learn(REQUEST, SCOPE, b"{}")
    head, length, body = heads.find(REQUEST.replace(b"length: 2", b"length: 5") + b"abc")
    assert (length, body) == (b"5", b"{}abc")
    assert head.headers(length) == [(b"host", b"a"), (b"content-length", b"5")]
    assert head.target["path"] == "/mcp"


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:-1],
        REQUEST + b"{",
        REQUEST.replace(b"host: a", b"host: b"),
        REQUEST.replace(b"host: a", b"Host: a"),
        REQUEST.replace(b"length: 2", b"length: +2"),
        REQUEST.replace(b"length: 2", b"length: 2 "),
        REQUEST.replace(b"length: 2", b"length: 0000000002"),
        REQUEST.replace(b"POST", b"PUT"),
        REQUEST.replace(b"\r\n\r\n", b"\r\nx: y\r\n\r\n"),
        REQUEST.replace(b"\r\n", b"\n"),
        b"",
        b"\r\n\r\n",
    ],
)
def test_other_bytes_are_not_known(data: bytes):
    heads = Heads()
    heads.learn(REQUEST, SCOPE, b"{}")
    assert heads.find(REQUEST) is not None
    assert heads.find(data) is None


@pytest.mark.parametrize(
    ("data", "changed", "body"),
    [
        (REQUEST, {}, b"{"),
        (REQUEST.replace(b"POST", b"PUT"), {"method": "PUT"}, b"{}"),
        (REQUEST.replace(b"1.1", b"1.0"), {"http_version": "1.0"}, b"{}"),
        (REQUEST, {"headers": [(b"content-length", b"2"), (b"content-length", b"2")]}, b"{}"),
        (REQUEST, {"headers": [(b"content-length", b"3")]}, b"{}"),
        (REQUEST, {"headers": [(b"host", b"a")]}, b"{}"),
        (REQUEST, {"headers": [(b"content-length", b"2"), (b"expect", b"100-continue")]}, b"{}"),
        (REQUEST, {"headers": [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")]}, b"{}"),
        (REQUEST.replace(b"content-length", b"xontent-length"), {}, b"{}"),
        (REQUEST.replace(b"host: a", b"host: " + b"a" * LONGEST_BYTES), {}, b"{}"),
    ],
)
def test_what_is_not_plain_is_not_learned(data: bytes, changed: dict[str, object], body: bytes):
    heads = Heads()
    heads.learn(data, {**SCOPE, **changed}, body)
    assert heads.find(data) is None


def test_no_more_heads_are_kept_than_there_is_room_for():
    heads = Heads()
    for number in range(MOST_KEPT + 1):
        heads.learn(REQUEST.replace(b"host: a", b"host: a%d" % number), SCOPE, b"{}")
    assert heads.find(REQUEST.replace(b"host: a", b"host: a0")) is None
    assert heads.find(REQUEST.replace(b"host: a", b"host: a1")) is not None
