"""The SDK's server over our handlers: methods, instructions for each tenant, sealed request state, clean errors."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import mcp_types as mcp
import structlog
from mcp.server import CacheHint, Server, ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mercato.server.mcp.handlers import Ctx, Handlers
from mercato.server.mcp.sessions.record import owner_of
from mercato.server.mcp.tasks.methods import TaskMethods
from mercato.server.tracing import TracedMessages, Tracing
from mercato.tenancy.secrets import KeyRing

log = structlog.stdlib.get_logger(__name__)

NAME = "mercato"
_CACHEABLE = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
)
_LIST_TTL_MS = 30_000
"""Toggles must show soon, also to clients that do not listen."""


def build_server(handlers: Handlers, ring: KeyRing, version: str, tracing: Tracing | None = None) -> Server[Any]:
    """Return the server for all tenants; who calls is found out for each request."""
    server: Server[Any] = Server(
        NAME,
        title="mercato",
        version=version,
        description="Runs a commerce business, for one tenant at a time.",
        cache_hints={method: CacheHint(ttl_ms=_ttl_ms(method), scope="private") for method in _CACHEABLE},  # type: ignore[misc]
        get_tool_input_schema=handlers.tool_input_schema,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_subscribe_resource=handlers.subscribe,
        on_unsubscribe_resource=handlers.unsubscribe,
        on_subscriptions_listen=handlers.listen,
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
        on_completion=handlers.complete,
    )
    # By name, because the argument of the constructor warns that logging is deprecated: older clients still ask.
    server.add_request_handler("logging/setLevel", mcp.SetLevelRequestParams, handlers.set_logging_level)
    server.add_request_handler("server/discover", mcp.RequestParams, _discover(server, handlers))
    TaskMethods(handlers.tasks, handlers.callers).register(server)
    server.middleware.clear()  # the SDK's own tracing, which costs each message a good deal also where nobody traces
    if tracing is not None:
        server.middleware.append(TracedMessages(tracing, handlers.tool_names))
    server.middleware.append(_Edge(handlers))
    server.middleware.append(RequestStateBoundary(_security(ring, handlers), default_audience=NAME))
    return server


def _ttl_ms(method: str) -> int:
    return 0 if method == "resources/read" else _LIST_TTL_MS


def _security(ring: KeyRing, handlers: Handlers) -> RequestStateSecurity:
    def bound(ctx: Ctx) -> str:
        principal = handlers.callers.principal(ctx)
        return f"{principal.tenant_id}:{owner_of(principal)}"

    return RequestStateSecurity(keys=ring.derive("mcp request state"), bind_principal=bound)


def _discover(server: Server[Any], handlers: Handlers) -> Any:
    async def discover(ctx: Ctx, params: mcp.RequestParams) -> mcp.DiscoverResult:
        return mcp.DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS),
            capabilities=server.get_capabilities(protocol_version=ctx.protocol_version),
            instructions=await handlers.instructions(ctx),
        )

    return discover


class _Edge:
    """The last thing between a handler and the wire.

    Adds the tenant's instructions to `initialize`, and turns what no handler foresaw into an error without any
    library's text: the SDK's legacy path would put the exception's own words on the wire.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Answer one message."""
        try:
            result = await call_next(ctx)
            if ctx.method == "initialize" and isinstance(result, Mapping):
                return {**result, "instructions": await self._handlers.instructions(ctx)}
            return result
        except (MCPError, ValidationError):
            raise  # the first is ours or the protocol's; the SDK answers the second without its text
        except Exception as error:  # the edge of a request
            reference = secrets.token_hex(6)
            log.error("request failed", method=ctx.method, reference=reference, exc_info=error)
            raise MCPError(mcp.INTERNAL_ERROR, f"Internal error. Reference: {reference}.") from None
