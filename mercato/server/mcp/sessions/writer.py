"""The writer: one HTTP answer that is a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send

from mercato.server.auth.directory import Caller
from mercato.server.mcp.delivery import TRANSPORT, is_open
from mercato.server.mcp.sessions import events
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.record import Session

log = structlog.stdlib.get_logger(__name__)

LookAgain = Callable[[], Awaitable[Caller | None]]


class Writer:
    """Writes the entries of one stream in their order, each once, whoever brings them and however often.

    There are many of them and most are idle: an idle one has no task. It writes in a task that ends when all is
    written; the request itself only waits for the client to leave. A client that does not read loses its connection,
    and may resume.
    """

    __slots__ = (
        "_bounds",
        "_claimed",
        "_closing",
        "_delivered",
        "_early",
        "_early_bytes",
        "_last",
        "_over",
        "_pump",
        "_queue",
        "_send",
        "_started",
        "_waiting",
        "_waiting_bytes",
        "has_ended",
        "look_again",
        "looked_at",
        "scope",
        "session",
        "stream",
        "token",
        "told",
        "wrote_at",
    )

    def __init__(self, scope: Scope, send: Send, session: Session, stream: str, bounds: Bounds) -> None:
        self.scope = scope
        self.session = session
        self.stream = stream
        self.token = self._claimed = 0
        self.told = 0
        self.look_again: LookAgain = scope["state"]["look_again"]
        self.looked_at = self.wrote_at = asyncio.get_running_loop().time()
        self.has_ended = False
        self._send = send
        self._bounds = bounds
        self._last: int | None = None
        self._early: dict[int, tuple[bytes, bool]] = {}
        self._queue: list[bytes] = []
        self._waiting = self._waiting_bytes = self._early_bytes = 0
        self._started = self._closing = self._over = self._delivered = False
        self._pump: asyncio.Task[None] | None = None

    @property
    def last(self) -> int:
        """The number of the last entry that was taken in."""
        return self._last or 0

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is taken in."""
        return self._closing

    def take_over(self, token: int) -> None:
        """Write a stream under this token; who has a later one writes it from then on."""
        self.token = token
        self.note_claim(token)

    def note_claim(self, token: int) -> None:
        """Take in that this writer or another, maybe before this had a token, writes the stream under one."""
        self._claimed = max(self._claimed, token)
        if 0 < self.token < self._claimed:
            self.close()

    def start(self, last: int) -> None:
        """Begin the answer; entries up to `last` the client has already."""
        self._last = last
        for number in [number for number in self._early if number <= last]:
            self._early_bytes -= len(self._early.pop(number)[0])
        self._catch_up()
        self._write()

    def offer(self, number: int, data: bytes, *, final: bool = False) -> None:
        """Take in an entry. One that is early waits for those before it; one that was taken in already is left out."""
        if self._closing or number in self._early or (self._last is not None and number <= self._last):
            return
        if len(self._early) >= self._bounds.most_waiting or self._early_bytes > self._bounds.most_waiting_bytes:
            self.drop()
            return
        self._early[number] = (data, final)
        self._early_bytes += len(data)
        self._catch_up()

    def skip_to(self, number: int) -> None:
        """Give up what comes before an entry: it is not kept any more."""
        if self._last is not None and number - 1 > self._last:
            self._last = number - 1
            self._catch_up()

    async def take_all(self, entries: Iterable[tuple[int, bytes, bool]]) -> None:
        """Take in many entries as fast as the client reads them. One that does not read loses its connection."""
        for number, data, final in entries:
            self.offer(number, data, final=final)
            if self._is_half_full:
                try:
                    async with asyncio.timeout(self._bounds.reading_s):
                        await self.flushed()
                except TimeoutError:
                    self.drop()

    def push(self, raw: bytes) -> None:
        """Write bytes. One message may be as long as it likes; it is what waits before it that is bounded."""
        if self._closing:
            return
        if self._waiting >= self._bounds.most_waiting or self._waiting_bytes > self._bounds.most_waiting_bytes:
            self.drop()
            return
        self._queue.append(raw)
        self._waiting += 1
        self._waiting_bytes += len(raw)
        self._write()

    def close(self, parting: bytes = b"") -> None:
        """End the answer, once all that was taken in is written."""
        if parting:
            self.push(parting)
        if not self._closing:
            self._closing = True
            self._write()

    def drop(self) -> None:
        """End the connection at once: its client does not read."""
        self.leave()
        if self._pump is not None:
            self._pump.cancel()
        transport: Any = self.scope.get("extensions", {}).get(TRANSPORT)
        if transport is not None:
            transport.abort()

    async def until_left(self, receive: Receive) -> None:
        """Wait until the client has left or the answer has ended."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.leave()

    async def flushed(self) -> bool:
        """Wait until all that was taken in is written; return whether it was handed to an open connection."""
        if self._pump is not None:
            await asyncio.wait({self._pump})
        return self._delivered if self.has_ended else not self._over and is_open(self.scope)

    def leave(self) -> None:
        """The client is gone, or might as well be."""
        self._closing = self._over = True
        self._queue.clear()
        self._early.clear()

    @property
    def _is_half_full(self) -> bool:
        bounds = self._bounds
        return self._waiting > bounds.most_waiting / 2 or self._waiting_bytes > bounds.most_waiting_bytes / 2

    def _catch_up(self) -> None:
        while self._last is not None and (entry := self._early.pop(self._last + 1, None)) is not None:
            self._last += 1
            data, final = entry
            self._early_bytes -= len(data)
            self.push(self._event(self._last, data))
            if final:
                self.close()

    def _event(self, number: int, data: bytes) -> bytes:
        if self.session.transport == "sse":
            return events.plain_event(data)
        return events.event(self.stream, number, data, self._bounds.retry_ms)

    def _write(self) -> None:
        if self._pump is None and not self._over and self._last is not None:
            self._pump = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            if not self._started:
                self._started = True
                session_id = None if self.session.transport == "sse" else self.session.id
                headers = events.stream_headers(session_id)
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            while not self._over and (self._queue or self._closing):
                await self._write_some()
        except Exception as error:  # the edge of a connection: it is gone, or the server will not have it
            log.info("a stream could not be written", exc_info=error)
            self.leave()
        finally:
            self._pump = None

    async def _write_some(self) -> None:
        """Write what waits now; the bytes count as waiting until the connection has taken them."""
        chunk, count = b"".join(self._queue), len(self._queue)
        self._queue.clear()
        self.wrote_at = asyncio.get_running_loop().time()
        ends = self._closing
        if ends:
            self._over = self.has_ended = True
            self._delivered = is_open(self.scope)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not ends})
        self._waiting -= count
        self._waiting_bytes -= len(chunk)
