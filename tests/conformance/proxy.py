"""A proxy before one server or several: each request goes to the next of them, and no client sticks to any."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

_LONGEST_HEAD_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024


class Upstream(Protocol):
    """A server behind the proxy."""

    @property
    def port(self) -> int:
        """The port that it listens on, on this machine."""


class Proxy:
    """Forwards every request to the next of its upstreams, bytes as they come, so that streams stream.

    A connection that is refused is tried on the others, and nothing else ever is: a request that was sent once may have
    had its effect. With a key, every request is given it: the suite cannot send one itself. `refused` counts
    connections, `routed` requests by the port that they went to.
    """

    def __init__(self, upstreams: Sequence[Upstream] = (), *, key: str | None = None) -> None:
        self.upstreams = list(upstreams)
        self.refused = 0
        self.routed: Counter[int] = Counter()
        self._key = key
        self._turn = 0
        self._routes: dict[int, Upstream] = {}
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[int]:
        """Serve; yield the port to connect to."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_LONGEST_HEAD_BYTES)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def take_route(self, client_port: int) -> Upstream | None:
        """Return, once, where the request went that came from this port; None where every upstream refused."""
        return self._routes.pop(client_port, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        self._connections.add(this)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):  # whichever side is gone, the other learns it
                await self._forward(reader, writer)
        finally:
            self._connections.discard(this)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        server_reader, server_writer = await self._connect(writer.get_extra_info("peername")[1])
        try:
            server_writer.write(_for_one_request(head, self._key))
            ways = {
                asyncio.create_task(_pass_on(reader, server_writer)),
                asyncio.create_task(_pass_on(server_reader, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            server_writer.close()

    async def _connect(self, client_port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next upstream that takes it. Raises `OSError` where none does."""
        self._routes.pop(client_port, None)
        self._turn += 1  # once: others connect meanwhile, and each must get to every upstream
        for place in range(self._turn, self._turn + len(self.upstreams)):
            upstream = self.upstreams[place % len(self.upstreams)]
            try:
                connected = await asyncio.open_connection("127.0.0.1", upstream.port)
            except OSError:  # refused, or reset by one that was killed meanwhile: nothing was sent
                self.refused += 1
                continue
            self._routes[client_port] = upstream
            self.routed[upstream.port] += 1
            return connected
        raise ConnectionRefusedError("every upstream refused")


def _for_one_request(head: bytes, key: str | None) -> bytes:
    """Return the head with the key; the connection serves one request, so that only its head need be read."""
    lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    added = [] if key is None else [f"Authorization: Bearer {key}".encode()]
    return b"\r\n".join([*lines, *added, b"Connection: close", b"", b""])


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
