"""The handshake: `initialize`, which begins a session, and what the client says when it is ready."""

from __future__ import annotations

from typing import Any

import mcp_types as mcp
import structlog
from mcp.server.connection import Connection
from mcp.server.lowlevel import NotificationOptions
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from starlette.requests import Request

from mercato.server.mcp.messages import LONGEST_ID_BYTES, Message, has_more_than
from mercato.server.mcp.sessions import encoding
from mercato.server.mcp.sessions.exchange import connection_of
from mercato.server.mcp.sessions.outlet import Nowhere, Turn
from mercato.server.mcp.sessions.parts import Parts
from mercato.server.mcp.sessions.record import Session, Transport
from mercato.server.mcp.sessions.refusal import Refused

log = structlog.stdlib.get_logger(__name__)

_EVERYTHING = NotificationOptions(tools_changed=True, prompts_changed=True, resources_changed=True)


async def initialize(
    parts: Parts, request: Request, message: Message, transport: Transport, session: Session | None = None
) -> tuple[Session | None, bytes]:
    """Return the session, kept already, and the answer; no session where the handshake fails.

    `session` is the one that HTTP+SSE has begun before. Raises `TooManySessions`, `Refused` or `Away`.
    """
    if request.state.request_bytes > parts.bounds.longest_handshake_bytes:
        raise Refused(413, f"A handshake may have at most {parts.bounds.longest_handshake_bytes:,} bytes.")
    if has_more_than(message.params, parts.bounds.most_handshake_values):
        raise Refused(413, f"A handshake may have at most {parts.bounds.most_handshake_values:,} values.")
    connection = Connection(Nowhere(), protocol_version=LATEST_HANDSHAKE_VERSION)
    options = parts.server.create_initialization_options(_EVERYTHING)
    runner = ServerRunner(parts.server, connection, parts.lifespan_state, init_options=options)
    request_id = message.id if message.id is not None else ""
    try:
        result = await runner.on_request(_turn(request, message), "initialize", message.params)
    except Exception as error:  # the edge of a request: what the SDK does not know is not told
        known = handler_exception_to_error_data(error)
        if known is None:
            log.error("a handshake failed", exc_info=error)
        failure = known or mcp.ErrorData(code=mcp.INTERNAL_ERROR, message="Internal error.")
        return session, encoding.failure(request_id, failure)
    finally:
        await aclose_shielded(connection)
    if session is None:
        principal = request.state.caller.principal
        session = await parts.sessions.create(
            principal, transport, connection.protocol_version, connection.client_params
        )
    else:
        await parts.sessions.shake_hands(session, connection.protocol_version, connection.client_params)
    return session, encoding.result(request_id, result)


async def take_notification(parts: Parts, session: Session, request: Request, message: Message) -> None:
    """Take in a notification of the client. Raises `Away`."""
    if message.method == "notifications/cancelled":
        request_id = message.params.get("requestId")
        if isinstance(request_id, str | int) and not isinstance(request_id, bool):
            cancelled = encoding.encode_id(request_id)
            if len(cancelled) <= LONGEST_ID_BYTES:  # there is no request of a longer one
                await parts.calls.cancel(session.id, cancelled)
    elif message.method == "notifications/progress":
        await parts.questions.progress(session.id, message.params)
    elif message.method == "notifications/initialized" and not session.initialized:
        await parts.sessions.note_initialized(session)
    connection = connection_of(session, Nowhere())
    try:
        runner = ServerRunner(parts.server, connection, parts.lifespan_state)
        await runner.on_notify(_turn(request, message), message.method or "", message.params or None)
    finally:
        await aclose_shielded(connection)


def _turn(request: Request, message: Message) -> Turn:
    """Return a message that has no way back to the client but its answer."""
    context = TransportContext(kind="streamable-http", can_send_request=False, headers=request.headers)
    metadata: Any = ServerMessageMetadata(request_context=request)
    return Turn(Nowhere(), message.id, metadata, context)
