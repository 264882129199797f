"""The wire form of 2025-11-25 and before on Streamable HTTP: sessions that any replica serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.streamable_http import check_accept_headers
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mercato.server.mcp.delivery import is_open
from mercato.server.mcp.messages import Message
from mercato.server.mcp.sessions import encoding, names, refusal
from mercato.server.mcp.sessions.calls import Calls, DuplicateId, TooManyCalls
from mercato.server.mcp.sessions.exchange import Exchange
from mercato.server.mcp.sessions.handshake import initialize, take_notification
from mercato.server.mcp.sessions.parts import Parts
from mercato.server.mcp.sessions.record import Session
from mercato.server.mcp.sessions.refusal import Refused
from mercato.server.mcp.sessions.sessions import Sessions, TooManySessions
from mercato.server.mcp.sessions.store import Away
from mercato.server.mcp.sessions.streams import SessionGone, UnknownEvent
from mercato.server.mcp.sessions.writer import Writer


class Legacy:
    """Serves requests of the handshake era. What is known of a session here, another replica may know better."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def sessions(self) -> Sessions:
        """The sessions, for who answers plain calls in a shorter way."""
        return self._parts.sessions

    @property
    def calls(self) -> Calls:
        """The requests in flight, for the same."""
        return self._parts.calls

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Keep it running."""
        async with self._parts.run():
            yield

    def close(self) -> None:
        """Open no more streams, and end those that only wait."""
        self._parts.close()

    async def handle(self, scope: Scope, receive: Receive, send: Send, message: Message | None) -> None:
        """Answer one request; a GET and a DELETE have no message."""
        request = Request(scope, receive)
        try:
            if message is None:
                await self._without_message(request, receive, send)
            else:
                await self._post(request, message, receive, send)
        except Refused as refused:
            await refused.response(None if message is None else message.id)(scope, receive, send)
        except Away:
            await refusal.away().response(None if message is None else message.id)(scope, receive, send)

    async def _without_message(self, request: Request, receive: Receive, send: Send) -> None:
        version = request.headers.get("mcp-protocol-version")
        if version in MODERN_PROTOCOL_VERSIONS:
            raise Refused(405, "This version of the protocol has no sessions: send a POST.")
        if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            raise Refused(400, "The MCP-Protocol-Version is not supported.")
        if request.method == "GET" and not check_accept_headers(request)[1]:
            raise Refused(406, "The client must accept text/event-stream.")
        session = await self._session(request)
        if request.method == "GET":
            await self._get(request, session, receive, send)
        else:
            await self._parts.sessions.end(session.id, session.tenant_id)
            self._parts.end_session(session.id)
            await Response(status_code=200)(request.scope, receive, send)

    async def _post(self, request: Request, message: Message, receive: Receive, send: Send) -> None:
        if message.method == "initialize" and message.id is not None:
            await self._initialize(request, message, receive, send)
            return
        session = await self._session(request)
        if message.id is not None and message.method is not None:
            await self._request(request, session, message, receive, send)
            return
        if message.method is None:
            await self._parts.questions.answer(session.id, message.answer)
        else:
            await take_notification(self._parts, session, request, message)
        await Response(status_code=202)(request.scope, receive, send)

    async def _session(self, request: Request) -> Session:
        session_id = request.headers.get("mcp-session-id")
        if not session_id:
            raise Refused(400, "Send the Mcp-Session-Id that `initialize` was answered with.")
        session = await self._parts.sessions.find(session_id, request.state.caller.principal, "streamable")
        if session is None:
            raise refusal.unknown_session()
        return session

    async def _initialize(self, request: Request, message: Message, receive: Receive, send: Send) -> None:
        if self._parts.draining:
            raise refusal.draining()
        try:
            session, answer = await initialize(self._parts, request, message, "streamable")
        except TooManySessions:
            raise refusal.no_room() from None
        headers = {} if session is None else {"mcp-session-id": session.id}
        await Response(answer, media_type="application/json", headers=headers)(request.scope, receive, send)

    async def _request(
        self, request: Request, session: Session, message: Message, receive: Receive, send: Send
    ) -> None:
        exchange = await begun(self._parts, session, request, message)
        self._parts.exchanges.start(exchange.run())
        if await exchange.reply(receive, send):
            opened = is_open(request.scope)
            await Response(exchange.answer, media_type="application/json")(request.scope, receive, send)
            exchange.settle(opened)

    async def _get(self, request: Request, session: Session, receive: Receive, send: Send) -> None:
        """Write the stream of the session, or go on with the one of which the client has a part."""
        if self._parts.draining:
            raise refusal.draining()
        if not self._parts.writers.has_room(session.tenant_id):
            raise refusal.too_many(f"This tenant has {self._parts.bounds.most_streams:,} streams open here already.")
        stream, after = _resumed(request)
        writer = Writer(request.scope, send, session, stream, self._parts.bounds)
        try:
            await self._open(writer, after)
            await writer.until_left(receive)
        finally:
            await self._parts.streams.close(writer)

    async def _open(self, writer: Writer, after: int | None) -> None:
        try:
            await self._parts.streams.open(writer, after)
            if writer.stream != names.STANDALONE:
                await self._parts.calls.close_orphans(writer.session, writer.stream)
            else:
                await self._parts.notices.tell_missed(writer)
        except UnknownEvent:
            raise _unknown_event() from None
        except SessionGone:
            raise refusal.unknown_session() from None


async def begun(parts: Parts, session: Session, request: Request, message: Message) -> Exchange:
    """Return the exchange of a request that may begin. Raises `Refused` or `Away`."""
    request_id = encoding.encode_id(message.id if message.id is not None else "")
    exchange = Exchange(parts, session, request, message)
    try:
        try:
            exchange.begin()
        except DuplicateId as duplicate:
            if not duplicate.elsewhere:
                raise
            await parts.calls.verify(session.id, request_id)
            exchange.begin()
    except DuplicateId:
        raise Refused(400, "A request of this id is in flight already.") from None
    except TooManyCalls:
        raise refusal.too_many(f"{parts.bounds.most_calls} requests of this session are in flight already.") from None
    return exchange


def _resumed(request: Request) -> tuple[str, int | None]:
    """Return which stream is wanted, and after which of its entries."""
    last = request.headers.get("last-event-id")
    if not last:
        return names.STANDALONE, None
    named = names.event_of(last)
    if named is None:
        raise _unknown_event()
    return named


def _unknown_event() -> Refused:
    return Refused(400, "This Last-Event-ID is not known in this session.")
