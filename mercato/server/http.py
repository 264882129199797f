"""The HTTP server: uvicorn, ended in our order."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.applications import Starlette

from mercato.server.heads import Heads
from mercato.server.learning_connection import LearningConnection
from mercato.server.outbox import Outbox


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
                http=partial(LearningConnection, heads=Heads(), outbox=Outbox()),  # type: ignore[arg-type]  # uvicorn does no more than call it
                interface="asgi3",
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
