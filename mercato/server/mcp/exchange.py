"""The exchange: one HTTP request that the fast lane answers, and what becomes of its connection meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from mercato.server.mcp.delivery import AT_ONCE, BODY, Delivery, is_open
from mercato.server.mcp.frames import PING, STREAM_HEADERS, frame
from mercato.server.mcp.messages import limit_body
from mercato.server.mcp.plain import Plain
from mercato.tools.errors import LimitReached
from mercato.tools.moments import Lasting, Moments

STREAM_AFTER_S = 15
"""From when on an answer becomes an event stream with comments, so that no proxy takes the connection for dead."""
_NONE: dict[str, Any] = {}
_LINES = b"content-length: %d\r\ncontent-type: application/json\r\nx-request-id: %b\r\n"
Pieces = Sequence[bytes]
"""A body in pieces: a list of tools is long, and is copied into the kernel only."""


class Exchange:
    """One HTTP exchange: what has come, what was sent, and whether its client is still there."""

    __slots__ = (
        "_delivery",
        "_is_modern",
        "_moments",
        "_streaming",
        "_timer",
        "_watcher",
        "began",
        "clock",
        "is_cancelled",
        "is_gone",
        "lasts",
        "receive",
        "request_bytes",
        "request_id",
        "scope",
        "send",
        "status",
        "task",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, request_bytes: int) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.request_id = request_id
        self.request_bytes = request_bytes
        self.began = time.perf_counter()
        self.status = 0
        self.is_gone = False
        self.is_cancelled = False
        self._streaming: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[Any] | None = None
        self.clock: Lasting | None = None
        self.lasts = False
        self._delivery: Delivery | None = None
        self._moments: Moments
        self._is_modern: bool

    def delivery(self) -> Delivery:
        """Return what tells of the fate of the answer."""
        self._delivery = Delivery()
        return self._delivery

    def begin(self, moments: Moments, *, is_modern: bool) -> None:
        """Begin to run a call. After a moment its client is watched: one of the modern era that leaves cancels it."""
        self._moments, self._is_modern = moments, is_modern
        self.task = moments.begin(self)

    def end(self) -> None:
        """Watch no more: the call is over, and what cancels it now comes too late."""
        self.task = None
        if self._moments.end(self) is None:
            if self._timer is not None:
                self._timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()

    def has_lasted(self) -> None:
        """Begin to watch the client, and to think of proxies in between."""
        self.lasts = True
        if self.clock is not None:
            self.clock.has_lasted()
        self._timer = asyncio.get_running_loop().call_later(STREAM_AFTER_S, self._begin_streaming)
        self._watcher = asyncio.create_task(self._watch())

    def cancel(self) -> None:
        """Cancel the call."""
        if self.task is not None and not self.is_cancelled:
            self.is_cancelled = True
            self.task.cancel()

    async def end_cancelled(self, plain: Plain) -> None:
        """Answer a call that was cancelled; where its client is gone nobody reads it."""
        if self.task is not None:
            self.task.uncancel()
        if self._delivery is not None:
            self._delivery.settled(False)
        if self.is_gone:
            self.status = 499
            return
        error = b'{"code":-32800,"message":"Request cancelled"}'
        await self.send_result((b'{"jsonrpc":"2.0","id":', plain.id, b',"error":', error, b"}"))

    async def hand_over(self, plain: Plain) -> bool:
        """Leave the request to the application, which runs the call once more: nothing was done but to ask.

        Where a stream was begun already, that is too late; the model is told to try again.
        """
        if self._streaming is None:
            return False
        text = b'"content":[{"type":"text","text":"The question came too late. Call again."}],"isError":true'
        await self.send_result(result_message(plain, b"{" + text + b"}"))
        return True

    async def send_limit(self, plain: Plain, reached: LimitReached) -> None:
        """Answer that a limit was reached."""
        await self.send_json(429, (limit_body(plain.id, reached),), retry_after_s=reached.retry_after_s)

    async def send_result(self, pieces: Pieces) -> None:
        """Answer a call, as JSON or, where it took long, as the last event of its stream.

        Not before one turn of the loop has passed: the admission of the call leaves first.
        """
        if self._delivery is None and self._streaming is None and self.answer_at_once(200, pieces, later=True):
            return
        await asyncio.sleep(0)  # which also shows that a client has left
        was_open = self._delivery is not None and not self.is_gone and is_open(self.scope)
        if self._streaming is not None:
            self._streaming.cancel()
        if self.status == 0:
            if not self.answer_at_once(200, pieces):
                await self._send_json(200, pieces)
        else:
            event = frame(b"".join(pieces))
            await self.send({"type": "http.response.body", "body": event, "more_body": False})
        if self._delivery is not None:
            self._delivery.settled(was_open)

    async def send_json(self, status: int, pieces: Pieces, *, retry_after_s: int | None = None) -> None:
        """Answer with JSON: at once where the connection can, which costs a third."""
        if not self.answer_at_once(status, pieces, retry_after_s=retry_after_s):
            await self._send_json(status, pieces, retry_after_s)

    def answer_at_once(
        self, status: int, pieces: Pieces, *, retry_after_s: int | None = None, later: bool = False
    ) -> bool:
        """Answer with JSON without waiting; False, with nothing sent, where the connection cannot."""
        at_once = self.scope.get("extensions", _NONE).get(AT_ONCE)
        if at_once is None:
            return False
        length = sum(map(len, pieces))
        if not at_once(self.scope, status, self._lines(length, retry_after_s), pieces, length, later=later):
            return False
        self.status = status
        return True

    async def _send_json(self, status: int, pieces: Pieces, retry_after_s: int | None = None) -> None:
        self.status = status
        lines = self._lines(sum(map(len, pieces)), retry_after_s).split(b"\r\n")
        headers = [tuple(line.split(b": ", 1)) for line in lines[:-1]]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"".join(pieces)})

    def _lines(self, length: int, retry_after_s: int | None) -> bytes:
        """Return the lines of the head."""
        lines = _LINES % (length, self.request_id.encode())
        return lines if retry_after_s is None else b"retry-after: %d\r\n%b" % (retry_after_s, lines)

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        if self._delivery is not None:
            self._delivery.abandoned()
        if self._is_modern:
            self.cancel()

    def _begin_streaming(self) -> None:
        self._streaming = asyncio.create_task(self._stream())

    async def _stream(self) -> None:
        self.status = 200
        headers = [*STREAM_HEADERS, (b"x-request-id", self.request_id.encode())]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            await self.send({"type": "http.response.body", "body": PING, "more_body": True})
            await asyncio.sleep(STREAM_AFTER_S)


def result_message(plain: Plain, result: bytes) -> Pieces:
    """Return the message that carries a result."""
    return b'{"jsonrpc":"2.0","id":', plain.id, b',"result":', result, b"}"


def whole_of(scope: Scope) -> bytes | None:
    """Return a body that has come already: without waiting, which costs more than to read it."""
    at_once: Callable[[Scope], bytes | None] | None = scope.get("extensions", _NONE).get(BODY)
    return None if at_once is None else at_once(scope)


async def pieces_of(receive: Receive) -> list[AsgiMessage]:
    """Return what a body came in; the last piece is no `http.request` where it did not come to its end."""
    message = await receive()
    pieces = [message]
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        pieces.append(message)
    return pieces


def again(pieces: Sequence[AsgiMessage], body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body once more: in its pieces, or, where it has none, as a whole."""
    left = [*pieces] or [{"type": "http.request", "body": body}]

    async def replay() -> AsgiMessage:
        return left.pop(0) if left else await receive()

    return replay
