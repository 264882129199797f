"""The wire form of 2025-11-25 and before on Streamable HTTP, for now without sessions.

Each request stands alone, so that any replica serves it. What needs a way back to the client (elicitation, sampling,
roots, a stream of its own) has none here yet; such a call says so instead of waiting for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope, Send


class Legacy:
    """Serves requests of the handshake era."""

    def __init__(self, server: Server[Any], max_body_bytes: int) -> None:
        self._manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=max_body_bytes)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Keep it running."""
        async with self._manager.run():
            yield

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._manager.handle_request(scope, receive, send)
