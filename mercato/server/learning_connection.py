"""A connection that learns the heads of requests: one that comes again needs no parser."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from mercato.server.connection import BoundedConnection
from mercato.server.heads import KNOWN_HEAD, Heads, KnownHead


class LearningConnection(BoundedConnection):
    """A `BoundedConnection` that takes a whole request whose head is known past the parser, and past its callbacks.

    Only between two requests, where the parser has nothing of the next one: all that it would do is the same again. A
    connection's first request is not learned; many have no second. The request finds its head in `scope[KNOWN_HEAD]`.
    """

    def __init__(self, *args: Any, heads: Heads, **named: Any) -> None:
        super().__init__(*args, **named)
        self._heads = heads

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        if not self._is_between_requests:
            super().data_received(data)
        elif (found := self._heads.find(data)) is not None:
            self._take(*found)
        else:
            is_first = self.cycle is None
            super().data_received(data)
            if not is_first and self.cycle is not None and self._ended is self.scope and self.cycle.keep_alive:
                self._heads.learn(data, self.scope, self.cycle.body)

    @property
    def _is_between_requests(self) -> bool:
        """Whether what comes next begins a request, on a connection that goes on."""
        if self._ended is not self.scope or self._head_bytes or self.transport.is_closing():
            return False
        cycle = self.cycle
        return cycle is None or (cycle.response_complete and cycle.keep_alive)

    def _take(self, head: KnownHead, length: bytes, body: bytes) -> None:
        """Do what the parser's callbacks do for one whole request."""
        self._unset_keepalive_if_required()
        if self._deadline is not None:
            self._forget_deadline()
        self.on_message_begin()
        scope: Any = self.scope
        scope["headers"] = self.headers = head.headers(length)
        scope.update(head.target)
        scope["extensions"] = self._extensions
        scope[KNOWN_HEAD] = head
        self.cycle = self._answered = cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        self._ended = scope
        self._begin(cycle, self.app)
