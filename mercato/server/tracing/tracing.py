"""Tracing: makes the spans of one process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import TracerProvider
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mercato.server.tracing.spans import CallSpan, Leaf, RequestSpan, current_request, parent_of

_LONGEST_ID = 128


class Tracing:
    """Makes the spans of one process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("mercato")

    def request(self, scope: Scope) -> RequestSpan:
        """Return the span of an HTTP request, to be entered for as long as it is answered."""
        return RequestSpan(self._tracer, scope)

    def call(
        self,
        method: str,
        *,
        name: str | None = None,
        version: str | None = None,
        meta: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        tenant_id: int | None = None,
        request_id: str | None = None,
    ) -> CallSpan:
        """Return the span of a message, to be entered for as long as it is handled.

        `name` is that of a tool or prompt which exists. The caller's own trace, as `meta` tells of it, goes on.
        """
        attributes: dict[str, Any] = {
            "mcp.method.name": method,
            "mcp.protocol.version": version,
            "mcp.session.id": session_id,
            "mercato.tenant_id": tenant_id,
            "jsonrpc.request.id": request_id and request_id[:_LONGEST_ID],
        }
        if method == "tools/call":
            attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        elif method == "prompts/get":
            attributes["gen_ai.prompt.name"] = name
        known = {key: value for key, value in attributes.items() if value is not None}
        return CallSpan(self._tracer, f"{method} {name}" if name else method, known, parent_of(meta))

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an application answer a request inside a span."""
        with self.request(scope) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.answered(message["status"])
                await send(message)

            await app(scope, receive, noting)

    def leaf(self, name: str, began_ns: int, attributes: Mapping[str, Any], error: str | None = None) -> None:
        """Add what has just ended, such as a statement, to the span that it belongs to; without one it is dropped."""
        ended = Leaf(name, began_ns, time.time_ns(), attributes, error)
        around = trace.get_current_span()
        if around.get_span_context().is_valid:
            if around.is_recording():
                ended.write(self._tracer, None)
        elif (request := current_request.get()) is not None:
            request.hold(ended)
