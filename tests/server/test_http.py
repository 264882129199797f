"""The head of a request: bounded in length and in time, before anybody is known."""

from __future__ import annotations

import anyio
import pytest

from mercato.server import http
from tests.server.conftest import Site


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
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.05)
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
