"""An exchange: one HTTP request on a connection of its own, whose answer is read as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

SILENCE_S = 20
"""So long an answer may say nothing. Streams are kept alive every 15 seconds."""


class Cut(Exception):
    """The connection ended before the answer was whole."""


class Hung(Exception):
    """Nothing came for longer than anybody can be asked to wait."""


@dataclass(slots=True)
class Event:
    """One server-sent event; without id and data it was a comment, which keeps a stream alive."""

    id: str = ""
    data: str = ""

    def message(self) -> dict[str, Any]:
        """Return the JSON-RPC message."""
        read: dict[str, Any] = json.loads(self.data)
        return read


class Exchange:
    """An answer that has begun."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.status = 0
        self.headers: dict[str, str] = {}

    async def begin(self) -> None:
        """Read the head."""
        head = (await self._within(self._reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
        self.status = int(head[0].split(" ")[1])
        for line in head[1:]:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    @property
    def is_stream(self) -> bool:
        """Whether it is an event stream instead of JSON."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def body(self) -> bytes:
        """Return the whole body."""
        return b"".join([piece async for piece in self.pieces()])

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events of a stream until its end."""
        event, begun, rest = Event(), False, b""
        async for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                text = line.decode().rstrip("\r")
                if text:
                    begun = True
                    _take(event, text)
                elif begun:
                    yield event
                    event, begun = Event(), False

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises `Cut` or `Hung`."""
        if "content-length" in self.headers:
            yield await self._within(self._reader.readexactly(int(self.headers["content-length"])))
            return
        while True:
            size = int(await self._within(self._reader.readuntil(b"\r\n")), 16)
            piece = await self._within(self._reader.readexactly(size + 2))
            if size == 0:
                return
            yield piece[:-2]

    async def _within(self, reading: Any) -> bytes:
        try:
            async with asyncio.timeout(SILENCE_S):
                read: bytes = await reading
                return read
        except TimeoutError:
            raise Hung from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Cut from error


def _take(event: Event, line: str) -> None:
    name, _, value = line.partition(":")
    if name == "id":
        event.id = value.strip()
    elif name == "data":
        event.data = value.strip()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to this machine. Raises `Cut` where nobody takes it."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        raise Cut from error
    try:
        yield reader, writer
    finally:
        writer.close()


def request(method: str, headers: Mapping[str, str], message: dict[str, Any] | None = None) -> bytes:
    """Return the bytes of a request to the endpoint."""
    body = b"" if message is None else json.dumps(message).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} /mcp HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body
