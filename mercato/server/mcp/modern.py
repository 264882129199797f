"""The 2026-07-28 wire form: every request carries its envelope, so any replica serves it. The SDK's own manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import Message, Receive, Scope, Send

from mercato.server.mcp.delivery import Delivery, is_open

_VERSION_HEADER = b"mcp-protocol-version"


def is_modern(scope: Scope) -> bool:
    """Whether the request names a version that has no handshake; unknown ones too, to be refused in that form."""
    for name, value in scope["headers"]:
        if name == _VERSION_HEADER:
            return value.decode("latin-1") not in HANDSHAKE_PROTOCOL_VERSIONS
    return False


class Modern:
    """Serves modern requests."""

    def __init__(self, server: Server[Any], max_body_bytes: int) -> None:
        self._manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=max_body_bytes)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Keep it running."""
        async with self._manager.run():
            yield

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and tell what became of the answer."""
        delivery = Delivery()
        scope.setdefault("state", {})["delivery"] = delivery
        delivered = False

        async def watched(message: Message) -> None:
            nonlocal delivered
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last:
                await asyncio.sleep(0)  # let the loop see that the connection was closed, if it was
            was_open = is_last and is_open(scope)
            await send(message)
            delivered = delivered or was_open

        try:
            await self._manager.handle_request(scope, receive, watched)
        finally:
            delivery.settled(delivered)
