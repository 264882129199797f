"""The HTTP server: uvicorn, ended in our order."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 10
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, for which the head of a request may neither be endless nor take for ever to come.

    Header values lose the white space after them: RFC 9110 says that it is no part, and the parser leaves it.
    """

    _head_bytes = 0
    _in_head = True
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; refuse a head that does not end."""
        if self._in_head and self._late is None:
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in one header."""
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        self._forget_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has ended; the next one's timer begins with its first byte."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_timer()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._late = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _forget_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class HttpServer(uvicorn.Server):
    """uvicorn that ends open streams gracefully before it waits for connections, and returns instead of re-raising.

    The application's lifespan is the caller's to run, so that what it raises at start reaches them as it is.
    uvicorn raises the signal again once it is done, which would end the process before its engines are left.
    """

    def __init__(self, app: Starlette, *, max_wait_s: int) -> None:
        self._app = app
        self._started = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=BoundedHeads,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                date_header=False,
                timeout_graceful_shutdown=max_wait_s,
            )
        )

    async def until_started(self, serving: asyncio.Task[None]) -> None:
        """Wait until it serves, or has failed to."""
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait({started, serving}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the parts and begin to accept."""
        await super().startup(sockets)
        self._started.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Begin the shutdown at SIGTERM and at Ctrl-C; a second one hurries it."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams, wait for requests, then take the parts down."""
        if (close_streams := getattr(self._app.state, "close_streams", None)) is not None:
            close_streams()
        await super().shutdown(sockets)
