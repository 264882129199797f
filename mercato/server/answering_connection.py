"""A connection that gives bodies and takes answers without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from mercato.server.connection import BoundedConnection
from mercato.server.outbox import Outbox

COPIED_BYTES = 16 * 1024
"""The pieces of an answer that is shorter are copied into one, which is faster than a list of them."""


class AnsweringConnection(BoundedConnection):
    """A `BoundedConnection` whose requests find, in `mercato.body` and `mercato.answer` of their scope's extensions,
    ways to take a body and to answer at once.

    An application may have a method `at_once(scope, body) -> bool`. It is asked first where a request came in one piece
    and nothing is before it: what it answers there and then needs no task. It answers nothing where it returns False.
    """

    _held: tuple[RequestResponseCycle, Sequence[bytes]] | None = None
    """An answer that has still to leave."""

    def __init__(self, *args: Any, outbox: Outbox, **named: Any) -> None:
        super().__init__(*args, **named)
        self._outbox = outbox

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._extensions["mercato.body"] = self.body_at_once
        self._extensions["mercato.answer"] = self.answer_at_once

    def data_received(self, data: bytes) -> None:
        """Take in bytes. What comes before an answer has left waits for that."""
        if self._held is None:
            super().data_received(data)
        else:
            self.loop.call_soon(self._receive_late, data)

    def body_at_once(self, scope: Scope) -> bytes | None:
        """Return a body that has come wholly; None, with nothing done, where it must be received."""
        cycle = self._answered
        if cycle is None or cycle.scope is not scope or cycle.more_body or cycle.disconnected:
            return None
        if self.flow.read_paused:
            self.flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def answer_at_once(
        self, scope: Scope, status: int, head: bytes, body: Sequence[bytes], length: int, *, later: bool = False
    ) -> bool:
        """Hand over a whole answer, its body in pieces; False, with nothing done, where it must go the usual way.

        `head` are header lines of ours, which need no check; the usual way costs three times as much. With `later` it
        leaves by the outbox. What is set here is what uvicorn sets when an answer is complete. The request names itself
        by its scope, instead of being bound into what its scope holds: such a ring would wait for the garbage
        collector, and every request would leave one.
        """
        cycle = self._answered
        if cycle is None or cycle.scope is not scope or not _can_answer(cycle):
            return False
        cycle.response_started = cycle.response_complete = True
        ending = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        whole = (STATUS_LINE[status], head, ending, *body)
        self._held = cycle, (b"".join(whole),) if length < COPIED_BYTES else whole
        if later:
            self._outbox.put(self.loop, self._send_held)
        else:
            self._send_held()
        return True

    def shutdown(self) -> None:
        """The server ends."""
        self._send_held()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._held = None
        super().connection_lost(exc)

    def _send_held(self) -> None:
        if self._held is None:
            return
        (cycle, whole), self._held = self._held, None
        if len(whole) == 1:
            self.transport.write(whole[0])
        else:
            self.transport.writelines(whole)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()  # that of `cycle` is gone when its task has ended

    def _receive_late(self, data: bytes) -> None:
        if self.parser is not None:  # the connection still stands
            self.data_received(data)

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        at_once = getattr(app, "at_once", None)
        if at_once is None or cycle.more_body or not _can_answer(cycle) or not at_once(cycle.scope, cycle.body):
            super()._begin(cycle, app)


def _can_answer(cycle: RequestResponseCycle) -> bool:
    """Whether the connection takes a whole answer now."""
    return not (
        cycle.disconnected or cycle.response_started or cycle.flow.write_paused or cycle.waiting_for_100_continue
    )
