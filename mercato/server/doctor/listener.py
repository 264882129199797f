"""Listener: where the browser comes back to after the sign-in, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qsl, urlsplit

_PATH = "/callback"
_PAGE = b"<!doctype html><title>connector doctor</title><p>Thank you. You can close this page and go back."
_REQUEST_TIMEOUT_S = 10


class Listener:
    """Waits for the one request that brings the answer. Everything else on the port is answered 404."""

    def __init__(self, port: int) -> None:
        self.redirect_uri = f"http://127.0.0.1:{port}{_PATH}"
        self._answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def answer(self, wait_s: float) -> Mapping[str, str] | None:
        """Return the parameters that came back; None where nobody came in time."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._answer), wait_s)
        except TimeoutError:
            return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection of the browser."""
        try:
            line = await asyncio.wait_for(reader.readline(), _REQUEST_TIMEOUT_S)
            while (await asyncio.wait_for(reader.readline(), _REQUEST_TIMEOUT_S)).strip():
                pass
            writer.write(self._response(line.decode("latin-1")))
            await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass  # a browser that opens connections in advance, and says nothing on them
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _response(self, line: str) -> bytes:
        method, _, rest = line.partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        parameters = dict(parse_qsl(target.query, keep_blank_values=True))
        if method != "GET" or target.path != _PATH or not parameters.keys() & {"code", "error"}:
            return _http("404 Not Found", b"")
        if not self._answer.done():
            self._answer.set_result(parameters)
        return _http("200 OK", _PAGE)


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """Listen on a free port of 127.0.0.1."""
    listeners: list[Listener] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await listeners[0].serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listeners.append(Listener(server.sockets[0].getsockname()[1]))
    async with server:
        yield listeners[0]


def _http(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
    return f"{head}referrer-policy: no-referrer\r\nconnection: close\r\n\r\n".encode() + body
