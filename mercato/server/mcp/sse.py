"""HTTP+SSE, the wire form of 2024-11-05: a stream that says where to send messages, and their answers on it.

It has the same sessions and streams as the newer form, so that the messages of a session may come to any replica. A
session ends with its stream: a client of that time cannot come back to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from mcp_types.version import LATEST_HANDSHAKE_VERSION
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mercato.server.mcp.legacy import begun
from mercato.server.mcp.messages import Malformed, Message, read_message
from mercato.server.mcp.sessions import events, names, refusal
from mercato.server.mcp.sessions.handshake import initialize, take_notification
from mercato.server.mcp.sessions.parts import Parts
from mercato.server.mcp.sessions.record import Session
from mercato.server.mcp.sessions.refusal import Refused
from mercato.server.mcp.sessions.sessions import TooManySessions
from mercato.server.mcp.sessions.store import Away
from mercato.server.mcp.sessions.streams import SessionGone
from mercato.server.mcp.sessions.writer import Writer
from mercato.server.site import MESSAGES_PATH, SSE_PATH

Limit = Callable[[Message, Request], Awaitable[Response | None]]
"""Returns the refusal of a message for which a limit is reached."""


class HttpSse:
    """Both addresses of HTTP+SSE as one ASGI application."""

    def __init__(self, parts: Parts, limit: Limit) -> None:
        self._parts = parts
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        message: Message | None = None
        try:
            if scope["path"] == SSE_PATH:
                _expect(request, "GET")
                await self._stream(request, receive, send)
                return
            _expect(request, "POST")
            session = await self._session(request)
            message = read_message(body := await request.body())
            request.state.request_bytes, request.state.surface = len(body), None
            await (await self._taken(request, session, message))(scope, receive, send)
        except ClientDisconnect:
            return
        except Malformed as broken:
            await broken.response()(scope, receive, send)
        except Refused as refused:
            await refused.response(message.id if message else None)(scope, receive, send)
        except Away:
            await refusal.away().response(message.id if message else None)(scope, receive, send)

    async def _stream(self, request: Request, receive: Receive, send: Send) -> None:
        parts, principal = self._parts, request.state.caller.principal
        if parts.draining:
            raise refusal.draining()
        if not parts.writers.has_room(principal.tenant_id):
            raise refusal.too_many(f"This tenant has {parts.bounds.most_streams:,} streams open here already.")
        with parts.writers.opening(principal.tenant_id):
            try:
                session = await parts.sessions.create(principal, "sse", LATEST_HANDSHAKE_VERSION, None)
            except TooManySessions:
                raise refusal.no_room() from None
        writer = Writer(request.scope, send, session, names.STANDALONE, parts.bounds)
        try:
            await parts.streams.open(writer, None)
            address = f"{request.scope.get('root_path', '')}{MESSAGES_PATH}?session_id={session.id}"
            writer.push(events.plain_event(address.encode(), b"endpoint"))
            await writer.until_left(receive)
        finally:
            await parts.streams.close(writer)
            with suppress(Away):
                await parts.sessions.end(session.id, session.tenant_id)
            parts.end_session(session.id)

    async def _session(self, request: Request) -> Session:
        session_id = request.query_params.get("session_id")
        if not session_id:
            raise Refused(400, "Send the session_id of the address that the stream named.")
        session = await self._parts.sessions.find(session_id, request.state.caller.principal, "sse")
        if session is None:
            raise refusal.unknown_session()
        return session

    async def _taken(self, request: Request, session: Session, message: Message) -> Response:
        """Take in a message, unless it is one too many; of a call that is, the model reads so on the stream."""
        if (refused := await self._limit(message, request)) is not None:
            return refused
        await self._message(request, session, message)
        return Response("Accepted", status_code=202)

    async def _message(self, request: Request, session: Session, message: Message) -> None:
        """Take in a message; what there is to say to it comes on the stream."""
        parts = self._parts
        if message.method is None:
            await parts.questions.answer(session.id, message.answer)
        elif message.id is None:
            await take_notification(parts, session, request, message)
        elif message.method == "initialize":
            _, answer = await initialize(parts, request, message, "sse", session)
            try:
                await parts.streams.append(session.id, names.STANDALONE, [answer])
            except SessionGone:
                raise refusal.unknown_session() from None
        else:
            exchange = await begun(parts, session, request, message)
            parts.exchanges.start(exchange.run())


def _expect(request: Request, method: str) -> None:
    if request.method != method:
        raise Refused(405, f"Send a {method}.")
