"""A connection: nobody may hold it by sending without an end, or by not reading what was answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sized
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MOST_HEAD_BYTES = 64 * 1024
MOST_IGNORED_BYTES = 16 * 1024 * 1024
"""Of a body that goes on although its request was answered: so much is read, that the client may read the answer."""
IGNORED_PIECE_BYTES, IGNORED_PAUSE_S = 64 * 1024, 0.005
"""After so much of such a body at once the next is left for a while: there are others to be served."""
LEAST_BODY_BYTES = 16 * 1024
"""For less of a body that goes on nobody is asked for an answer, or woken: what drips in would cost a turn each."""
SMALL_PIECE_BYTES, MOST_SMALL_PIECES = 64, 8
"""Of a head or a body: no network makes many so small. Who sends more of them is read a while after each."""
REST_S = 0.5
LEAST_READ_BYTES = 16 * 1024
"""Of what waits for a client: so much must it read in each `unread_timeout_s`."""
MOST_PIPELINED = 32
"""Requests that wait behind one that is not answered yet: nobody who means well sends that many."""
_SPREAD = 0.1
"""By which share chance makes a deadline later."""
_BLANK = (b" ", b"\t")
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class TooManyRequests(Exception):
    """A client sends more requests before their answers than are kept for it."""


class _Flow(FlowControl):
    """Reads no further while requests wait: uvicorn reads on with each answer, and what waits would only grow."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if self.read_paused and not self._pipeline:
            super().resume_reading()


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol with deadlines: for the head of a request, for its body, and for reading the answer.

    A request that comes in one piece, as nearly all do, starts no timer. The time in which we do not read is not the
    client's: while an earlier request of the same connection is answered, or the application has enough for now. One
    whose body is short is passed on when all of it is there: till then it costs no more than its bytes.

    Each request finds the transport in `scope["extensions"]["mercato.transport"]`. Header values lose the white space
    after them: RFC 9110 says that it is no part, and the parser leaves it.
    """

    head_timeout_s: float = 10
    body_timeout_s: float = 10
    unread_timeout_s: float = 30

    _extensions: dict[str, Any]
    _may_have_blanks = True
    _is_receiving = False
    _unstarted: tuple[RequestResponseCycle, ASGI3Application] | None = None
    """The request whose head has come, and nobody has been asked for an answer yet."""
    _answered: RequestResponseCycle | None = None
    """The request that is being answered; others may wait behind it."""
    _ended: Any = None
    """The scope of the last request that has come in wholly."""
    _head_bytes = 0
    _ignored_bytes = 0
    _small_pieces = 0
    _rest: asyncio.TimerHandle | None = None
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    """When the last answer went out, by the loop's clock, if nothing has come since."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._extensions = {"mercato.transport": self.transport}
        self._await(self.head_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        before = self._ended
        # A head that came in pieces, which there is a deadline for, is looked at whatever is in this one.
        self._may_have_blanks = self._deadline is not None or b" \r\n" in data or b"\t\r\n" in data
        self._is_receiving = True
        HttpToolsProtocol.data_received(self, data)
        self._is_receiving = False
        if self._ended is before or self._ended is not self.scope:
            self._await_rest(data, begun=self._ended is not before)
        elif self._deadline is not None:
            self._forget_deadline()
        if self._unstarted is not None and _is_due(self._unstarted[0]):
            (cycle, app), self._unstarted = self._unstarted, None
            self._begin(cycle, app)

    def on_headers_complete(self) -> None:
        """The head has ended; the body has a deadline of its own, from here on."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise TooManyRequests
        if self._deadline is not None:
            self._forget_deadline()
            self._head_bytes = self._ignored_bytes = 0
        if self._may_have_blanks:
            for index, (name, value) in enumerate(self.headers):
                if value.endswith(_BLANK):
                    self.headers[index] = (name, value.rstrip(b" \t"))
        HttpToolsProtocol.on_headers_complete(self)
        self.scope["extensions"] = self._extensions

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body. Whoever waits for it is woken when there is much of it, or its end."""
        cycle = self.cycle
        if len(cycle.body) + len(body) >= LEAST_BODY_BYTES:
            HttpToolsProtocol.on_body(self, body)
        elif not cycle.response_complete:
            cycle.body += body

    def on_message_complete(self) -> None:
        """The request has ended; the next one's time begins with its first byte."""
        HttpToolsProtocol.on_message_complete(self)
        self._ended = self.scope

    def on_response_complete(self) -> None:
        """The answer was handed over; where the connection ends with it, somebody must read it.

        As in uvicorn, but that a connection which stays open has one timer and not one after each answer.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._await_reading()
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._await_idle(self.timeout_keep_alive)

    def pause_writing(self) -> None:
        """The client reads slowly or not at all."""
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._forget_unread()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; where others wait before it there is no telling whose answer that would be."""
        if self.pipeline:
            self.transport.abort()
            return
        super().send_400_response(msg)
        self._end()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for a while."""
        super().timeout_keep_alive_handler()
        self._await_reading()

    def shutdown(self) -> None:
        """The server ends."""
        super().shutdown()
        if self.transport.is_closing():
            self._await_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; uvicorn tells only the request that came last."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self._forget_deadline()
        self._forget_unread()
        if self._rest is not None:
            self._rest.cancel()
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        # The last request holds this connection, and would be held by it: a ring that only the collector could end.
        self.cycle = self.scope = None  # type: ignore[assignment]  # as before the first request
        self._answered = self._ended = self._unstarted = None
        self._extensions = {}

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        if self._is_receiving:
            self._unstarted = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Pass a request on."""
        HttpToolsProtocol._start_asgi_task(self, cycle, app)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _await_idle(self, within_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(within_s, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is not None:
            left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
            if left_s > 0:
                self._await_idle(left_s)
            else:
                self.timeout_keep_alive_handler()

    @property
    def _in_head(self) -> bool:
        """Whether the head of a request has not ended, or none has begun."""
        return self.scope is self._ended or "method" not in self.scope

    def _await_rest(self, data: bytes, *, begun: bool) -> None:
        """Wait for the rest of a request; blank lines too are waited after, which end uvicorn's own wait for one."""
        if self._in_head:
            self._head_bytes = 0 if begun else self._head_bytes + len(data)
        elif self.cycle.response_complete:
            self._ignored_bytes += len(data)
            if len(data) >= IGNORED_PIECE_BYTES:  # who sends little at a time has a deadline, which a pause would move
                self._read_on_later()
        if self._head_bytes > MOST_HEAD_BYTES:
            self._end(_TOO_LARGE)
        elif self._ignored_bytes > MOST_IGNORED_BYTES:
            self._end()
        elif self._deadline is None:
            self._await(self.head_timeout_s if self._in_head else self.body_timeout_s)
        elif len(data) < SMALL_PIECE_BYTES:
            self._small_pieces += 1
            if self._small_pieces > MOST_SMALL_PIECES and self._rest is None:
                self._read_after_a_rest(self._deadline)

    def _read_after_a_rest(self, deadline: asyncio.TimerHandle) -> None:
        """Leave what comes next for a while: many that drip in step would hold up the others in one moment.

        The deadline stays as it is, and what has come by then is read before it.
        """
        rest_s = REST_S * (1 + random.random())  # noqa: S311  # no secret
        rest_s = min(rest_s, deadline.when() - self.loop.time() - REST_S / 10)
        if rest_s > 0 and not self.flow.read_paused and not self.transport.is_closing():
            self.transport.pause_reading()
            self._rest = self.loop.call_later(rest_s, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        if not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _read_on_later(self) -> None:
        self.flow.pause_reading()
        self.loop.call_later(IGNORED_PAUSE_S, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _await(self, timeout_s: float) -> None:
        if not self.transport.is_closing():
            # Connections that were opened together must not end, and come back, in one moment: others would wait.
            within_s = timeout_s * (1 + _SPREAD * random.random())  # noqa: S311  # no secret
            self._deadline = self.loop.call_later(within_s, self._too_late, timeout_s)

    def _too_late(self, timeout_s: float) -> None:
        """End a request that did not come in time, with an answer where the client can tell what it is for."""
        self._deadline = None
        if self._is_held_up():
            self._await(timeout_s)
        elif self._in_head or self.cycle.response_started:
            self._end()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._unstarted = None
            self._end(_TOO_LATE)

    def _is_held_up(self) -> bool:
        """Whether the request waits for us: an earlier one is not answered, or we do not read at the moment."""
        earlier = self._in_head and self.cycle is not None and not self.cycle.response_complete
        return earlier or bool(self.pipeline) or self.flow.read_paused

    def _end(self, answer: bytes = b"") -> None:
        if not self.transport.is_closing():
            if answer:
                self.transport.write(answer)
            self.transport.close()
        self._await_reading()

    def _await_reading(self) -> None:
        """Give the client time to take what waits for it, an answer or a part of a stream."""
        if self._unread is None:
            self._watch_unread(self.transport.get_write_buffer_size())

    def _watch_unread(self, before: int) -> None:
        self._unread = self.loop.call_later(self.unread_timeout_s, self._look_at_unread, before)

    def _look_at_unread(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting <= before - LEAST_READ_BYTES:
            self._watch_unread(waiting)
        else:
            self.transport.abort()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline, self._small_pieces = None, 0

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def _is_due(cycle: RequestResponseCycle) -> bool:
    """Whether an answer can be looked for: there is all of the body or much of it, or will be too much or none."""
    if not cycle.more_body or len(cycle.body) >= LEAST_BODY_BYTES or cycle.waiting_for_100_continue:
        return True
    declared = dict(cycle.scope["headers"]).get(b"content-length", b"0")
    return int(declared) > LEAST_BODY_BYTES
