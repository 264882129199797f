"""A socket between a client and a server, that a test can cut: an outage as the client sees it."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path


class Relay:
    """Passes bytes on between a socket of its own and another one."""

    def __init__(self, target: str, name: str) -> None:
        self._target = target
        self.folder = Path(tempfile.mkdtemp(prefix="mercato-relay-"))
        self.path = self.folder / name
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.loses_answer_to: bytes | None = None
        self.lost = asyncio.Event()

    async def open(self) -> None:
        """Take connections, from now on or again."""
        self._server = await asyncio.start_unix_server(self._pass, self.path)

    async def cut(self) -> None:
        """End every connection, and take none."""
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._copy(reader, far_writer, watched=True), self._copy(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()
                self._writers.discard(end)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watched: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if watched and self.loses_answer_to is not None and self.loses_answer_to in data:
                    await self._lose(data, writer)
                    return
                writer.write(data)
        writer.close()

    async def _lose(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Let the server do what it is asked, and the client never know."""
        self.loses_answer_to = None
        for other in self._writers - {writer}:
            other.transport.abort()
        writer.write(data)
        await writer.drain()
        self.lost.set()
