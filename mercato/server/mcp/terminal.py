"""MCP on standard input and output: one client, one tenant, both protocol eras."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import anyio
import structlog
from mcp.server import Server, ServerRequestContext
from mcp.server.lowlevel import NotificationOptions
from mcp.server.session import ServerSession
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mercato.server.changes import Change
from mercato.server.mcp.callers import LocalCallers
from mercato.server.mcp.pipes import open_pipes
from mercato.server.runtime import Runtime
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.tenants import Tenant, find_tenant

log = structlog.stdlib.get_logger(__name__)


async def serve_terminal(runtime: Runtime, slug: str, source: int, sink: int) -> None:
    """Serve two file descriptors until the client leaves, or SIGTERM or SIGINT.

    Raises `NotFound` for an unknown tenant.
    """
    tenant = await find_tenant(runtime.database, slug)
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_at_signal, group.cancel_scope)
        async with open_pipes(source, sink, max_line_bytes=runtime.settings.max_body_bytes) as (read, write):
            await serve_streams(runtime, tenant, read, write)
        group.cancel_scope.cancel()


async def _cancel_at_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


async def serve_streams(runtime: Runtime, tenant: Tenant, read: Any, write: Any) -> None:
    """Serve one client over a pair of the SDK's streams, acting as the tenant's owner, until it leaves."""
    principal = await local_principal(runtime.database, tenant)
    server = runtime.server(runtime.handlers(LocalCallers(principal, runtime.directory)))
    notifier = _Notifier(server)
    options = server.create_initialization_options(
        NotificationOptions(tools_changed=True, prompts_changed=True, resources_changed=True)
    )
    unsubscribe = runtime.changes.subscribe(notifier.listener(tenant.id))
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(notifier.run)
            await server.run(read, write, options)
            group.cancel_scope.cancel()
    finally:
        unsubscribe()
        notifier.close()


class _Notifier:
    """Tells a client of the handshake era what changed; a modern one listens on a stream of its own."""

    def __init__(self, server: Server[Any]) -> None:
        self._send, self._changes = anyio.create_memory_object_stream[Change](100)
        self._session: ServerSession | None = None
        self._uris: set[str] = set()
        server.middleware.append(self._watch)

    def listener(self, tenant_id: int) -> Callable[[Change], None]:
        """Return what takes in the tenant's changes."""

        def take(change: Change) -> None:
            if change.tenant_id == tenant_id and change.kind != "task" and self._session is not None:
                try:
                    self._send.send_nowait(change)
                except anyio.WouldBlock:
                    log.warning("change dropped: the client does not read")

        return take

    def close(self) -> None:
        """Take in nothing more."""
        self._send.close()
        self._changes.close()

    async def run(self) -> None:
        """Send what changed, for as long as the client is there."""
        async for change in self._changes:
            if self._session is None:
                continue
            if change.kind == "resource":
                if change.uri in self._uris:
                    await self._session.send_resource_updated(change.uri)
            else:
                await self._session.send_tool_list_changed()
                await self._session.send_prompt_list_changed()
                await self._session.send_resource_list_changed()

    async def _watch(self, ctx: ServerRequestContext[Any, Any], call_next: Any) -> Any:
        result = await call_next(ctx)
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            if ctx.method == "notifications/initialized":
                self._session = ctx.session
            elif ctx.method == "resources/subscribe" and ctx.params:
                self._uris.add(str(ctx.params["uri"]))
            elif ctx.method == "resources/unsubscribe" and ctx.params:
                self._uris.discard(str(ctx.params["uri"]))
        return result
