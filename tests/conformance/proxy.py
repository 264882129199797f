"""A proxy that adds a credential to every request and changes nothing else: the suite cannot send one itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_LONGEST_HEAD_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024


@asynccontextmanager
async def credential_proxy(host: str, port: int, key: str) -> AsyncIterator[int]:
    """Forward to the server at `host` and `port`; yield the port to connect to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):  # whichever side is gone, the other learns it
            await _serve(reader, writer, host, port, key)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_LONGEST_HEAD_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, key: str) -> None:
    """Forward one request: bytes are passed on as they come, so that streams stream."""
    head = await reader.readuntil(b"\r\n\r\n")
    server_reader, server_writer = await asyncio.open_connection(host, port)
    try:
        server_writer.write(_with_credential(head, key))
        ways = {
            asyncio.create_task(_pass_on(reader, server_writer)),
            asyncio.create_task(_pass_on(server_reader, writer)),
        }
        _, still_open = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in still_open:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    finally:
        server_writer.close()


def _with_credential(head: bytes, key: str) -> bytes:
    """Return the head with the key; the connection serves one request, so that only its head need be read."""
    lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([*lines, f"Authorization: Bearer {key}".encode(), b"Connection: close", b"", b""])


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
