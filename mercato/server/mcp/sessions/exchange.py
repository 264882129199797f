"""An exchange: one request of a session, from its message to its last byte."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import mcp_types as mcp
import structlog
from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data, progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import is_version_at_least
from starlette.requests import Request
from starlette.types import Receive, Send

from mercato.server.mcp.delivery import Delivery
from mercato.server.mcp.messages import Message
from mercato.server.mcp.sessions import encoding, events, names
from mercato.server.mcp.sessions.outlet import Outlet, Turn
from mercato.server.mcp.sessions.parts import Parts
from mercato.server.mcp.sessions.receipts import NO_RECEIPT
from mercato.server.mcp.sessions.record import Session
from mercato.server.mcp.sessions.registry import GONE
from mercato.server.mcp.sessions.running import NO_STREAM, Running
from mercato.server.mcp.sessions.store import Away
from mercato.server.mcp.sessions.streams import SessionGone
from mercato.server.mcp.sessions.writer import Writer

log = structlog.stdlib.get_logger(__name__)

RESUMABLE_SINCE = "2025-11-25"
"""The first version whose streams begin with an event to come back to."""
_REQUEST_CANCELLED = -32800
_PATIENCE_S = 0.02
"""Most requests are answered within this; until then nobody watches whether their client leaves."""


class Exchange:
    """Runs the handler apart from the connection: a client that leaves has not cancelled anything.

    The answer is plain JSON, unless the handler sends something first, lets its stream be closed, or takes long: then a
    stream begins, and what is sent on it can be had again from any replica. Over HTTP+SSE there is but one stream, of
    the session.
    """

    def __init__(self, parts: Parts, session: Session, request: Request, message: Message) -> None:
        if message.id is None or message.method is None:
            raise ValueError("this is no request")
        self._parts = parts
        self._session = session
        self._request = request
        self._id = message.id
        self._method = message.method
        self._params = message.params
        request.scope["state"].setdefault("delivery", Delivery())
        self._scope = anyio.CancelScope()
        self._opening = asyncio.Lock()
        self._stream = names.STANDALONE if session.transport == "sse" else ""
        self._writer: Writer | None = None
        self._send: Send | None = None
        self._has_left = False
        self._turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn = self._new_turn()
        self._call: Running
        self.answer = b""

    def begin(self) -> None:
        """Take the request's id. Raises `DuplicateId` or `TooManyCalls`."""
        self._call = self._parts.calls.begin(self._session.id, self._id, self.cancel)
        self._call.stream = self._stream or NO_STREAM

    def cancel(self) -> None:
        """Stop the handler."""
        self._turn.cancel_requested.set()
        self._scope.cancel()

    async def run(self) -> None:
        """Run the handler, and see to it that its answer is where the client finds it."""
        try:
            with self._scope:
                await self._run_handler()
        except asyncio.CancelledError:
            self._fail(mcp.ErrorData(code=mcp.INTERNAL_ERROR, message="The server was stopped before this was done."))
            await asyncio.shield(self._parts.background.start(self._finish()))
            raise
        if self._scope.cancelled_caught:
            self._fail(self._reason_of_cancelling())
        await self._finish()

    async def reply(self, receive: Receive, send: Send) -> bool:
        """Keep up the HTTP answer, while `run` goes on; return whether it is still to be given, as plain JSON."""
        self._send = send
        await asyncio.wait({self._turned}, timeout=_PATIENCE_S)
        if not self._turned.done() or self._writer is not None:
            gone = asyncio.ensure_future(_until_gone(receive))
            try:
                await self._until_clear(gone)
                if self._writer is not None:
                    await gone
            finally:
                gone.cancel()
        self._send = None
        if self._writer is None and self._turned.done():
            return True
        self._leave()
        return False

    async def _until_clear(self, gone: asyncio.Future[None]) -> None:
        """Wait until the request is answered, has a stream, or its client has left. What takes long gets a stream."""
        while not self._turned.done() and not gone.done():
            await asyncio.wait(
                {self._turned, gone},
                timeout=self._parts.bounds.stream_after_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not self._turned.done() and not gone.done():
                await self._open_for_long()

    def settle(self, delivered: bool) -> None:
        """Say what became of the answer."""
        self._delivery.settled(delivered)

    async def _run_handler(self) -> None:
        connection = self._connection()
        runner = ServerRunner(self._parts.server, connection, self._parts.lifespan_state)
        try:
            result = await runner.on_request(self._turn, self._method, self._params)
            await self._note_state()
            self.answer = encoding.result(self._id, result)
        except Away:
            self._fail(mcp.ErrorData(code=mcp.INTERNAL_ERROR, message="This cannot be kept at the moment: try again."))
        except Exception as error:  # the edge of a request: what the SDK does not know is not told
            known = handler_exception_to_error_data(error)
            if known is None:
                log.error("request failed", method=self._method, exc_info=error)
            self._fail(known or mcp.ErrorData(code=mcp.INTERNAL_ERROR, message="Internal error."))
        finally:
            await aclose_shielded(connection)

    def _fail(self, error: mcp.ErrorData) -> None:
        self.answer = encoding.failure(self._id, error)

    def _reason_of_cancelling(self) -> mcp.ErrorData:
        if self._call.is_duplicate:
            return mcp.ErrorData(code=mcp.INVALID_REQUEST, message="A request of this id is in flight already.")
        return mcp.ErrorData(code=_REQUEST_CANCELLED, message="Request cancelled")

    async def _note_state(self) -> None:
        """Keep what a request of the session's own asks for."""
        sessions, session = self._parts.sessions, self._session
        if self._method == "logging/setLevel":
            await sessions.set_level(session, str(self._params["level"]))
        elif self._method == "resources/subscribe":
            if len(str(self._params["uri"])) > self._parts.bounds.longest_uri:
                raise MCPError(mcp.INVALID_PARAMS, f"A URI may have {self._parts.bounds.longest_uri:,} characters.")
            if not await sessions.subscribe(session, str(self._params["uri"])):
                most = self._parts.bounds.most_subscriptions
                raise MCPError(mcp.INVALID_REQUEST, f"A session can subscribe to {most:,} resources.")
        elif self._method == "resources/unsubscribe":
            await sessions.unsubscribe(session, str(self._params["uri"]))
        for writer in self._parts.writers.of_session(session.id):
            writer.session = session

    async def _finish(self) -> None:
        self._turn.is_over = True
        if not self._stream:
            await self._end_without_stream()
            return
        try:
            if not self._call.is_registered:  # over HTTP+SSE nothing was sent before the answer, in most cases
                await self._parts.calls.register(self._call, self._stream)
            delivered = await self._end_stream()
        except Away:
            self._parts.calls.end(self._call)
            delivered = await self._answer_directly()
        self._turn_now()
        self.settle(delivered)

    async def _end_without_stream(self) -> None:
        try:
            if self._call.is_registered:
                await self._parts.calls.end_known(self._call)
            else:
                self._parts.calls.end(self._call)
        except Away:
            log.info("a request is still known as in flight", method=self._method)
        self._turn_now()
        if self._has_left:
            self.settle(False)

    async def _end_stream(self) -> bool:
        """Add the answer to the stream; return whether it was handed to an open connection, here or elsewhere."""
        parts = self._parts
        if self._writer_here() is not None:
            number, _ = await parts.calls.finish(self._call, self.answer, NO_RECEIPT)
            return await self._deliver(number)
        with parts.receipts.asked_for() as receipt:
            number, shown = await parts.calls.finish(self._call, self.answer, receipt)
            if self._writer_here() is not None:
                return await self._deliver(number)
            return number > 0 and shown > 0 and await parts.receipts.wait(receipt)

    async def _deliver(self, number: int) -> bool:
        writer, ends = self._writer_here(), self._stream != names.STANDALONE
        if writer is None:
            return False
        if number > 0:
            writer.offer(number, self.answer, final=ends)
            return await writer.flushed()
        if number == GONE:  # Redis has forgotten the session: its client waits here all the same
            return await self._answer_directly()
        if ends:  # somebody else has ended the stream: what they wrote is to be had from there
            writer.close(events.retry(self._parts.bounds.retry_ms))
        return False

    def _writer_here(self) -> Writer | None:
        return self._parts.writers.find(self._session.id, self._stream)

    async def _answer_directly(self) -> bool:
        """Redis is away: an answer whose client waits for it here needs no detour."""
        writer = self._writer_here()
        if writer is None:
            return False
        writer.push(events.plain_event(self.answer))
        if self._stream != names.STANDALONE:
            writer.close()
        return await writer.flushed()

    async def _write(self, message: bytes, question: str) -> None:
        """Send something on the stream of this request, which begins with it."""
        await self._open()
        await self._parts.streams.append(self._session.id, self._stream, [message], question=question)

    async def _write_standalone(self, message: bytes, question: str) -> None:
        await self._parts.streams.append(self._session.id, names.STANDALONE, [message], question=question)

    async def _open(self) -> None:
        """Begin the stream, unless it has begun. Raises `SessionGone` or `Away`."""
        async with self._opening:
            if self._stream and self._call.is_registered:
                return
            stream = self._stream or names.new_stream()
            primed = not self._stream and self._is_resumable
            if not await self._parts.calls.register(self._call, stream, primed=primed):
                raise SessionGone
            self._stream = stream
            if stream != names.STANDALONE:
                self._begin_answer(primed=primed)
        self._turn_now()

    def _begin_answer(self, *, primed: bool) -> None:
        if self._send is None:
            return  # the client has left already
        writer = Writer(self._request.scope, self._send, self._session, self._stream, self._parts.bounds)
        self._writer = writer
        self._parts.writers.add(writer)
        writer.start(0)
        if primed:
            writer.offer(1, b"")

    async def _open_for_long(self) -> None:
        try:
            await self._open()
        except (Away, SessionGone) as error:  # it is answered as it can be
            log.info("a long request has no stream", method=self._method, error=type(error).__name__)

    async def _close_stream(self) -> None:
        """Have the client come back for the rest: what a handler asks for that takes long."""
        try:
            await self._open()
            await self._parts.streams.end_writer(self._session.id, self._stream)
        except (Away, SessionGone) as error:
            log.info("a stream was not closed", method=self._method, error=type(error).__name__)

    async def _close_standalone(self) -> None:
        await self._parts.streams.end_writer(self._session.id, names.STANDALONE)

    def _turn_now(self) -> None:
        """Wake the HTTP answer: it is clear what becomes of it."""
        if not self._turned.done():
            self._turned.set_result(None)

    def _leave(self) -> None:
        """The stream has ended here, or the client has left; it may come back for the rest where we ended it."""
        self._has_left = True
        if self._writer is not None:
            self._parts.writers.remove(self._writer)
            self._writer.leave()
            if self._writer.has_ended:
                return
        if not self._turn.is_over:
            self._delivery.abandoned()

    @property
    def _delivery(self) -> Delivery:
        delivery: Delivery = self._request.scope["state"]["delivery"]
        return delivery

    @property
    def _is_resumable(self) -> bool:
        return is_version_at_least(self._session.version, RESUMABLE_SINCE)

    def _new_turn(self) -> Turn:
        streams = self._session.transport == "streamable" and self._is_resumable
        return Turn(
            outbound=Outlet(self._present, self._parts.questions, self._write, self._write),
            request_id=self._id,
            message_metadata=ServerMessageMetadata(
                request_context=self._request,
                close_sse_stream=self._close_stream if streams else None,
                close_standalone_sse_stream=self._close_standalone if streams else None,
            ),
            transport=TransportContext(
                kind="streamable-http" if self._session.transport == "streamable" else "sse",
                can_send_request=True,
                headers=self._request.headers,
            ),
            progress_token=progress_token_from_params(self._params),
        )

    def _connection(self) -> Connection:
        """Return the session as the SDK sees it. Its questions go the way of the request: there somebody listens."""
        outlet = Outlet(self._present, self._parts.questions, self._write_standalone, self._write)
        return connection_of(self._session, outlet)

    def _present(self) -> Session:
        return self._parts.sessions.known(self._session.id) or self._session


def connection_of(session: Session, outbound: Any) -> Connection:
    """Return a session as the SDK sees it."""
    connection = Connection(
        outbound, protocol_version=session.version, session_id=session.id, client_params=session.client
    )
    if session.initialized:
        connection.initialized.set()
    return connection


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
