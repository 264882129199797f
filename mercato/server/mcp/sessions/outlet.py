"""Outlets: the SDK's view of how a client is reached during a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import structlog
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import ProgressToken, RequestId

from mercato.server.mcp.sessions import encoding
from mercato.server.mcp.sessions.questions import Questions, Write
from mercato.server.mcp.sessions.record import Session
from mercato.server.mcp.sessions.store import Away
from mercato.server.mcp.sessions.streams import SessionGone

log = structlog.stdlib.get_logger(__name__)


class Outlet:
    """Sends to one stream of a session. A notification that cannot be sent is left out; a question then fails."""

    def __init__(self, session: Callable[[], Session], questions: Questions, write: Write, ask: Write) -> None:
        self._session = session
        self._questions = questions
        self._write = write
        self._ask = ask

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Send a notification; log messages only of the levels that the client wants."""
        if method == "notifications/message" and not self._session().wants((params or {}).get("level")):
            return
        try:
            await self._write(encoding.notification(method, params), "")
        except (Away, SessionGone) as error:
            log.info("a notification was not sent", method=method, error=type(error).__name__)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Put a question. Raises `MCPError`."""
        return await self._questions.ask(self._session().id, self._ask, method, params, opts)


class Outbound(Protocol):
    """What the SDK sends through: an `Outlet`, or `Nowhere`."""

    def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> Awaitable[None]:
        """Send a notification."""

    def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> Awaitable[dict[str, Any]]:
        """Put a question."""


class Nowhere:
    """What the handshake itself and a notification of the client have: no way to reach the client."""

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Leave it out."""

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Refuse."""
        raise NoBackChannelError(method)


@dataclass(slots=True)
class Turn:
    """One message of the client as the SDK is handed it: a `DispatchContext`."""

    outbound: Outbound
    request_id: RequestId | None
    message_metadata: ServerMessageMetadata
    transport: TransportContext
    progress_token: ProgressToken | None = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)
    is_over: bool = False

    @property
    def can_send_request(self) -> bool:
        """Whether a question can be put now."""
        return self.transport.can_send_request and not self.is_over

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Send a notification, as long as the request is not answered."""
        if not self.is_over:
            await self.outbound.notify(method, params, opts)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Put a question. Raises `NoBackChannelError` once the request is answered."""
        if not self.can_send_request:
            raise NoBackChannelError(method)
        return await self.outbound.send_raw_request(method, params, opts)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the request is, where the client wants to know."""
        if self.progress_token is None:
            return
        params: dict[str, Any] = {"progressToken": self.progress_token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        await self.notify("notifications/progress", params)
