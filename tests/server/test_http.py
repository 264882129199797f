"""A connection: bounded in length and in time, before anybody is known."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mercato.server import connection
from mercato.server.connection import BoundedConnection
from mercato.server.learning_connection import LearningConnection
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site, listening

BIG = 24 * 1024 * 1024


@pytest.fixture(scope="module")
async def plain(anyio_backend: str) -> AsyncIterator[Site]:
    """A server whose application shows what its connections do."""

    async def held(request: Request) -> Response:
        request.app.state.holding.set()
        await request.app.state.release.wait()
        return PlainTextResponse("held")

    async def big(request: Request) -> Response:
        request.app.state.transport = request.scope["extensions"]["mercato.transport"]
        return PlainTextResponse(b"a" * BIG)

    async def stream(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"a" * 65_536
                await anyio.lowlevel.checkpoint()

        request.app.state.transport = request.scope["extensions"]["mercato.transport"]
        return StreamingResponse(parts())

    async def echo(request: Request) -> Response:
        return PlainTextResponse(request.headers.get("x-said", "") + (await request.body()).decode())

    async def pieces(request: Request) -> Response:
        return PlainTextResponse(str([len(piece) async for piece in request.stream() if piece]))

    async def asked(request: Request) -> Response:
        request.app.state.asked.set()
        return PlainTextResponse(await request.body())

    def make(port: int) -> Starlette:
        app = Starlette(
            routes=[
                Route("/asked", asked, methods=["POST"]),
                Route("/held", held),
                Route("/big", big),
                Route("/stream", stream),
                Route("/echo", echo, methods=["POST"]),
                Route("/pieces", pieces, methods=["POST"]),
            ]
        )
        app.state.holding, app.state.release = anyio.Event(), anyio.Event()
        return app

    async with listening(make) as opened:
        yield opened


async def connect(site: Site) -> anyio.abc.SocketStream:
    host, _, port = site.url.removeprefix("http://").partition(":")
    return await anyio.connect_tcp(host, int(port))


async def rest_of(stream: anyio.abc.SocketStream) -> bytes:
    received = b""
    with anyio.fail_after(10):
        try:
            async for data in stream:
                received += data
        except anyio.BrokenResourceError:
            pass
    return received


async def test_a_head_that_does_not_end_is_refused(site: Site):
    async with await connect(site) as stream:
        await stream.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n")
        with anyio.fail_after(20):
            try:
                for number in range(2_000):
                    await stream.send(b"x-%d: " % number + b"a" * 1_000 + b"\r\n")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
        assert b"431" in await rest_of(stream)


async def test_a_head_that_does_not_come_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedConnection, "head_timeout_s", 0.05)
    for begun in (b"", b"POST /mcp HTTP/1.1\r\nhost: loc"):
        async with await connect(site) as stream:
            if begun:
                await stream.send(begun)
            assert await rest_of(stream) == b""


async def test_a_connection_serves_one_request_after_the_other(site: Site):
    async with await connect(site) as stream:
        for _ in range(3):
            await stream.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-padding: " + b"a" * 30_000 + b"\r\n\r\n")
            received = b""
            with anyio.fail_after(10):
                while b'"ok"}' not in received:
                    received += await stream.receive()
            assert received.startswith(b"HTTP/1.1 200")


async def test_a_body_that_does_not_come_is_answered_408(site: Site, acme: Tenant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedConnection, "body_timeout_s", 0.05)
    key = await site.key(acme)
    head = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    head += "accept: application/json, text/event-stream\r\n"
    for length, begun in (("content-length: 100", "{"), ("transfer-encoding: chunked", "1\r\n{\r\n")):
        async with await connect(site) as stream:
            await stream.send(f"{head}{length}\r\n\r\n{begun}".encode())
            received = await rest_of(stream)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert received.count(b"HTTP/1.1") == 1
        assert b"connection: close" in received


async def test_a_body_is_not_waited_for_once_its_request_is_answered(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedConnection, "body_timeout_s", 0.05)
    async with await connect(site) as stream:
        await stream.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{")
        received = await rest_of(stream)
    assert received.startswith(b"HTTP/1.1 401 ")
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("begun", "ending", "asks_before_the_end"),
    [
        (b"content-length: 9\r\n\r\nabc", b"defghi", False),
        (b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", b"6\r\ndefghi\r\n0\r\n\r\n", False),
        (b"content-length: 9\r\nexpect: 100-continue\r\n\r\n", b"abcdefghi", True),
        (b"content-length: 20000\r\n\r\nabc", b"d" * 19_997, True),
    ],
)
async def test_nobody_is_asked_before_a_short_body_is_there(
    plain: Site, begun: bytes, ending: bytes, asks_before_the_end: bool
):
    plain.app.state.asked = anyio.Event()
    async with await connect(plain) as stream:
        await stream.send(b"POST /asked HTTP/1.1\r\nhost: localhost\r\n" + begun)
        with anyio.move_on_after(5 if asks_before_the_end else 0.05):
            await plain.app.state.asked.wait()
        assert plain.app.state.asked.is_set() is asks_before_the_end
        await stream.send(ending)
        answer = b""
        with anyio.fail_after(5):
            while not answer.endswith((b"abcdefghi", b"d" * 10)):
                answer += await stream.receive()
    assert b"HTTP/1.1 200" in answer


async def test_a_body_that_drips_in_wakes_nobody_until_there_is_much_of_it_or_its_end(plain: Site):
    least = connection.LEAST_BODY_BYTES
    async with await connect(plain) as stream:
        await stream.send(b"POST /pieces HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (least + 9))
        for piece in (b"a", b"b", b"c", b"d" * (least - 3), b"e", b"f"):
            await stream.send(piece)
            assert await anything_within(stream, 0.02) == b""
        await stream.send(b"g" * 7)
        assert (await stream.receive()).endswith(b"[%d, 9]" % least)


async def test_who_drips_is_read_after_a_while_and_everything_that_came_in_time_counts(
    plain: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "REST_S", 1)
    monkeypatch.setattr(BoundedConnection, "body_timeout_s", 0.5)
    pieces: list[bytes] = []
    whole = LearningConnection.data_received

    def noted(self: LearningConnection, data: bytes) -> None:
        pieces.append(data)
        whole(self, data)

    monkeypatch.setattr(LearningConnection, "data_received", noted)
    body = b"drip" * 25
    async with await connect(plain) as stream:
        await stream.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body))
        for at in range(len(body)):
            seen = len(pieces)
            await stream.send(body[at : at + 1])
            while at < connection.MOST_SMALL_PIECES and len(pieces) == seen:
                await anyio.lowlevel.checkpoint()
        answer = b""
        with anyio.fail_after(5):
            while not answer.endswith(body):
                answer += await stream.receive()
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(pieces) <= connection.MOST_SMALL_PIECES + 4
    assert b"".join(pieces).endswith(body)


async def test_who_goes_on_to_drip_has_no_more_time_for_it(plain: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "REST_S", 0.02)
    monkeypatch.setattr(BoundedConnection, "body_timeout_s", 0.2)
    async with await connect(plain) as stream:
        await stream.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as dripping:

                async def drip() -> None:
                    while True:
                        await stream.send(b"a")
                        await anyio.lowlevel.checkpoint()

                dripping.start_soon(drip)
                answer = await stream.receive()
                dripping.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_body_without_end_is_refused_and_ends_the_connection(
    site: Site, acme: Tenant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "MOST_IGNORED_BYTES", 1_000_000)
    head = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {await site.key(acme)}\r\n"
    head += "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
    async with await connect(site) as stream, anyio.create_task_group() as group:
        await stream.send(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
        group.start_soon(send_for_ever, stream, b"2710\r\n" + b"a" * 10_000 + b"\r\n")
        received = await rest_of(stream)
        group.cancel_scope.cancel()
    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.count(b"HTTP/1.1") == 1


async def test_a_body_that_nobody_reads_is_read_slowly_and_the_next_request_is_answered(
    plain: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "IGNORED_PAUSE_S", 0.05)
    size, began = 8 * 1024 * 1024, anyio.current_time()
    async with await connect(plain) as stream:
        await stream.send(b"POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
        assert (await stream.receive()).startswith(b"HTTP/1.1 404 ")
        await stream.send(b"a" * size + b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nend")
        received = b""
        with anyio.fail_after(20):
            while not received.endswith(b"end"):
                received += await stream.receive()
    assert anyio.current_time() - began > size / (256 * 1024) * 0.05 * 0.9


async def send_for_ever(stream: anyio.abc.SocketStream, data: bytes) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await stream.send(data)


async def test_what_is_no_http_is_refused_and_ends_the_connection(site: Site):
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 32,
        b"what is this\r\n\r\n",
        b"{}\r\n\r\n",
    ):
        async with await connect(site) as stream:
            await stream.send(garbage)
            assert (await rest_of(stream)).startswith(b"HTTP/1.1 400 ")


async def test_requests_that_come_together_are_answered_in_order_and_the_next_has_its_own_time(
    plain: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(BoundedConnection, "body_timeout_s", 0.05)
    post = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n"
    async with await connect(plain) as stream:
        await stream.send(f"{post}one{post}two{post}th".encode())
        answers = (await rest_of(stream)).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"408"]
    assert [answer[-3:] for answer in answers[:2]] == [b"one", b"two"]


async def test_a_request_has_time_while_an_earlier_one_is_answered(plain: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedConnection, "head_timeout_s", 0.01)
    monkeypatch.setattr(BoundedConnection, "body_timeout_s", 0.01)
    for begun in (b"POST /ec", b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nth"):
        plain.app.state.holding, plain.app.state.release = anyio.Event(), anyio.Event()
        async with await connect(plain) as stream:
            await stream.send(b"GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n" + begun)
            await plain.app.state.holding.wait()
            assert await anything_within(stream, 0.1) == b""
            plain.app.state.release.set()
            received = await rest_of(stream)
        assert b"held" in received
        assert received.count(b"HTTP/1.1") == (2 if b"length" in begun else 1)


async def anything_within(stream: anyio.abc.SocketStream, seconds: float) -> bytes:
    with anyio.move_on_after(seconds):
        return await stream.receive()
    return b""


async def test_blank_lines_keep_no_connection_open(plain: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedConnection, "head_timeout_s", 0.05)
    async with await connect(plain) as stream:
        await stream.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\none")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await stream.send(b"\r\n")
        assert await rest_of(stream) == b""


@pytest.mark.parametrize("before", [[], [b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"]])
@pytest.mark.parametrize("pieces", [1, 2])
async def test_white_space_around_a_header_is_no_part_of_it(plain: Site, before: list[bytes], pieces: int):
    head = b"POST /echo HTTP/1.1\r\nhost: localhost\r\nx-said: \t hi there\t \r\ncontent-length: 0\r\n"
    whole = head + b"connection: close\r\n\r\n"
    at = whole.index(b"content") if pieces == 2 else len(whole)
    async with await connect(plain) as stream:
        for request in before:
            await stream.send(request)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await stream.send(whole[:at])
        if pieces == 2:
            assert await anything_within(stream, 0.05) == b""
            await stream.send(whole[at:])
        assert (await rest_of(stream)).endswith(b"\r\n\r\nhi there")


@pytest.mark.parametrize("after", [b"", b"connection: close\r\n"])
async def test_an_answer_that_nobody_reads_is_given_up(plain: Site, monkeypatch: pytest.MonkeyPatch, after: bytes):
    monkeypatch.setattr(BoundedConnection, "unread_timeout_s", 0.05)
    with client_that_does_not_read(plain) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nhost: localhost\r\n" + after + b"\r\n")
        with anyio.fail_after(10):
            await given_up(plain)


async def test_a_stream_that_nobody_reads_is_given_up(plain: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedConnection, "unread_timeout_s", 0.05)
    with client_that_does_not_read(plain) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        with anyio.fail_after(10):
            await given_up(plain)


async def test_an_answer_that_is_read_slowly_is_sent_wholly(plain: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedConnection, "unread_timeout_s", 0.05)
    received = 0
    async with await connect(plain) as stream:
        await stream.send(b"GET /big HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        async for data in stream:
            received += len(data)
            await anyio.lowlevel.checkpoint()
    assert received > BIG


def client_that_does_not_read(site: Site) -> socket.socket:
    site.app.state.transport = None
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = site.url.removeprefix("http://").partition(":")
    client.connect((host, int(port)))
    return client


async def given_up(site: Site) -> None:
    """Wait until the connection of the last request that asked for much is closed, and nothing waits in it."""
    transport: asyncio.Transport | None = None
    while transport is None or not transport.is_closing() or transport.get_write_buffer_size():
        await anyio.lowlevel.checkpoint()
        transport = site.app.state.transport
