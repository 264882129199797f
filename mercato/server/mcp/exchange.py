"""The exchange: one HTTP request that the fast lane answers, and what becomes of its connection meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from mercato.server.mcp.delivery import Delivery, is_open
from mercato.server.mcp.messages import limit_body
from mercato.server.mcp.plain import Plain
from mercato.tools.errors import LimitReached

WATCH_AFTER_S = 0.05
"""From when on a running call is watched for its client leaving: what ends sooner is not worth a task."""
STREAM_AFTER_S = 15
"""From when on an answer becomes an event stream with comments, so that no proxy takes the connection for dead."""
_JSON = (b"content-type", b"application/json")
_EVENTS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
]
_PING = b": ping\r\n\r\n"


class Exchange:
    """One HTTP exchange: what has come, what was sent, and whether its client is still there."""

    __slots__ = (
        "_delivery",
        "_receive",
        "_send",
        "_streaming",
        "_task",
        "_watcher",
        "began",
        "is_cancelled",
        "is_gone",
        "request_bytes",
        "request_id",
        "scope",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, request_bytes: int) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.request_id = request_id
        self.request_bytes = request_bytes
        self.began = time.perf_counter()
        self.status = 0
        self.is_gone = False
        self.is_cancelled = False
        self._streaming: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._delivery: Delivery | None = None

    def delivery(self) -> Delivery:
        """Return what tells of the fate of the answer."""
        self._delivery = Delivery()
        return self._delivery

    def watched(self, *, is_modern: bool) -> Watch:
        """Watch the client for as long as a block lasts: one of the modern era that leaves cancels its call."""
        return Watch(self, is_modern)

    def cancel(self) -> None:
        """Cancel the call."""
        if self._task is not None and not self.is_cancelled:
            self.is_cancelled = True
            self._task.cancel()

    async def end_cancelled(self, plain: Plain) -> None:
        """Answer a call that was cancelled; where its client is gone nobody reads it."""
        if self._task is not None:
            self._task.uncancel()
        if self._delivery is not None:
            self._delivery.settled(False)
        if self.is_gone:
            self.status = 499
            return
        error = b'{"code":-32800,"message":"Request cancelled"}'
        await self.send_result(b'{"jsonrpc":"2.0","id":' + plain.id + b',"error":' + error + b"}")

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
        retry_after = (b"retry-after", str(reached.retry_after_s).encode())
        await self.send_json(429, limit_body(plain.id, reached), retry_after)

    async def send_result(self, body: bytes) -> None:
        """Answer a call, as JSON or, where it took long, as the last event of its stream."""
        if self._delivery is not None:
            await asyncio.sleep(0)  # let the loop see that the connection was closed, if it was
        was_open = not self.is_gone and is_open(self.scope)
        if self._streaming is None:
            await self.send_json(200, body)
        else:
            self._streaming.cancel()
            event = b"event: message\r\ndata: " + body + b"\r\n\r\n"
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        if self._delivery is not None:
            self._delivery.settled(was_open)

    async def send_json(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Answer with JSON."""
        self.status = status
        length = (b"content-length", str(len(body)).encode())
        sent = [*headers, length, _JSON, (b"x-request-id", self.request_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": sent})
        await self._send({"type": "http.response.body", "body": body})

    def begin_watching(self) -> asyncio.Task[None]:
        """Wait for the client to leave; the task that is returned ends when it has."""
        self._watcher = asyncio.create_task(self._watch())
        return self._watcher

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        if self._delivery is not None:
            self._delivery.abandoned()

    def begin_streaming(self) -> None:
        """Begin an event stream, whose comments keep the connection."""
        self._streaming = asyncio.create_task(self._stream())

    async def _stream(self) -> None:
        self.status = 200
        headers = [*_EVENTS, (b"x-request-id", self.request_id.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            await self._send({"type": "http.response.body", "body": _PING, "more_body": True})
            await asyncio.sleep(STREAM_AFTER_S)


class Watch:
    """Looks after a call that takes longer than an instant."""

    __slots__ = ("_exchange", "_is_modern", "_timer")

    def __init__(self, exchange: Exchange, is_modern: bool) -> None:  # one caller
        self._exchange = exchange
        self._is_modern = is_modern

    def __enter__(self) -> None:
        exchange, loop = self._exchange, asyncio.get_running_loop()
        exchange._task = asyncio.current_task()
        self._timer = loop.call_later(WATCH_AFTER_S, self._begin)

    def _begin(self) -> None:
        exchange = self._exchange
        self._timer = asyncio.get_running_loop().call_later(STREAM_AFTER_S, exchange.begin_streaming)
        watcher = exchange.begin_watching()
        if self._is_modern:
            watcher.add_done_callback(lambda done: None if done.cancelled() else exchange.cancel())

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()
        if self._exchange._watcher is not None:
            self._exchange._watcher.cancel()


def result_message(plain: Plain, result: bytes) -> bytes:
    """Return the message that carries a result."""
    return b'{"jsonrpc":"2.0","id":' + plain.id + b',"result":' + result + b"}"


async def body_of(receive: Receive) -> tuple[bytes | None, Receive]:
    """Return the body, and a `receive` that gives it once more; None where it did not come to its end."""
    taken: list[AsgiMessage] = []
    while True:
        message = await receive()
        taken.append(message)
        if message["type"] != "http.request":
            return None, _again(taken, receive)
        if not message.get("more_body"):
            body = message["body"] if len(taken) == 1 else b"".join(part["body"] for part in taken)
            return body, _again(taken, receive)


def _again(taken: list[AsgiMessage], receive: Receive) -> Receive:
    async def replay() -> AsgiMessage:
        return taken.pop(0) if taken else await receive()

    return replay
