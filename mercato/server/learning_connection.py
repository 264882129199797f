"""A connection that learns the heads of requests: one that comes again needs no parser."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mercato.server.answering_connection import AnsweringConnection
from mercato.server.heads import KNOWN_HEAD, Heads, KnownHead


class LearningConnection(AnsweringConnection):
    """An `AnsweringConnection` that takes a whole request whose head is known past the parser, and past its callbacks.

    Only between two requests, where the parser has nothing of the next one: all that it would do is the same again. A
    connection's first request is not learned; many have no second. The request finds its head in `scope[KNOWN_HEAD]`.
    """

    _same: dict[str, Any] | None = None
    """What the scopes of all requests that came this way have alike, and a place for the rest."""

    def __init__(self, *args: Any, heads: Heads, **named: Any) -> None:
        super().__init__(*args, **named)
        self._heads = heads

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        # Whatever comes by the parser ends what `_idle_since` says, also an empty line.
        if self._idle_since is None or self._ended is not self.scope:
            super().data_received(data)
        elif (found := self._heads.find(data)) is not None:
            self._take(*found)
        else:
            is_first = self.cycle is None
            super().data_received(data)
            if not is_first and self.cycle is not None and self._ended is self.scope and self.cycle.keep_alive:
                self._heads.learn(data, self._ended, self.cycle.body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._same = None  # a ring, as others that are ended there

    def _take(self, head: KnownHead, length: bytes, body: bytes) -> None:
        """Do what the parser's callbacks do for one whole request."""
        self._idle_since = None
        if self._deadline is not None:
            self._forget_deadline()
        scope: Any = (self._same or self._scope()).copy()
        scope.update(head.target)
        scope["headers"] = head.headers(length)
        scope["state"] = self.app_state.copy()
        scope[KNOWN_HEAD] = head
        self.scope = self._ended = scope
        self.cycle = self._answered = cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=_Come(),  # type: ignore[arg-type]  # it has all that is asked of it
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        cycle.body = body  # type: ignore[assignment]  # nothing is added to it
        cycle.more_body = False
        if head.needs_task:
            HttpToolsProtocol._start_asgi_task(self, cycle, self.app)
        else:
            self._begin(cycle, self.app)

    def _scope(self) -> dict[str, Any]:
        self._same = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "extensions": self._extensions,
            **dict.fromkeys(("method", "path", "raw_path", "query_string", "headers", "state", KNOWN_HEAD)),
        }
        return self._same


class _Come:
    """An event that is set, for a request that has come wholly: one of asyncio is made for whoever waits for more."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = True
        self._event: asyncio.Event | None = None

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        self._is_set = False
        if self._event is not None:
            self._event.clear()

    async def wait(self) -> None:
        if self._event is None:
            self._event = asyncio.Event()
            if self._is_set:
                self._event.set()
        await self._event.wait()
