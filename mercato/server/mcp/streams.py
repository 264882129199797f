"""Listen streams: one for each `subscriptions/listen`, for as long as its credential is good."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import mcp_types as mcp
from mcp.server import ServerRequestContext
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError

from mercato.plugins.catalog import Catalog, ScopeMissing, Visible
from mercato.server.auth.directory import LONGEST_AGE_S, Caller
from mercato.server.changes import Change, ChangeBus
from mercato.server.mcp.callers import Callers
from mercato.server.mcp.subscriptions import TenantBus
from mercato.tenancy.database import is_outage
from mercato.tools.errors import ToolError

MOST_STREAMS = 1_000
MOST_URIS = 1_000
"""Of one tenant, in one process."""


class ListenStreams:
    """Serves listen streams, and ends those whose credential was revoked or has expired."""

    def __init__(self, catalog: Catalog, changes: ChangeBus, callers: Callers) -> None:
        self._catalog = catalog
        self._changes = changes
        self._callers = callers
        self._open: set[ListenHandler] = set()
        self._of_tenant: Counter[int] = Counter()

    async def serve(
        self, ctx: ServerRequestContext[Any, Any], params: mcp.SubscriptionsListenRequestParams, caller: Caller
    ) -> Any:
        """Serve one stream until the client leaves, the server ends, or the credential is good no more."""
        tenant_id = caller.access.tenant.id
        if self._of_tenant[tenant_id] >= MOST_STREAMS:
            raise MCPError(mcp.INTERNAL_ERROR, f"{MOST_STREAMS} streams of this tenant are open already: close some.")
        bus = TenantBus(self._changes, tenant_id, _reader(self._catalog, caller))
        handler = ListenHandler(bus)
        self._open.add(handler)
        self._of_tenant[tenant_id] += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, ctx, handler, bus, caller)
                result = await handler(ctx, params)
                group.cancel_scope.cancel()
            return result
        finally:
            self._open.discard(handler)
            self._of_tenant -= Counter({tenant_id: 1})

    def close(self) -> None:
        """End every stream in the protocol's graceful way."""
        for handler in list(self._open):
            handler.close()

    async def _watch(
        self, ctx: ServerRequestContext[Any, Any], handler: ListenHandler, bus: TenantBus, caller: Caller
    ) -> None:
        """Look the caller up again at each change of the tenant's access, and from time to time."""
        changed = anyio.Event()
        known: Caller | None = caller

        def wake(change: Change) -> None:
            if change.kind == "access" and change.tenant_id in {0, caller.access.tenant.id}:
                bus.readable = _nothing  # until it is known again what may be read
                changed.set()

        unsubscribe = self._changes.subscribe(wake)
        try:
            while (known := await self._still(ctx, known)) is not None:
                bus.readable = _reader(self._catalog, known)
                with anyio.move_on_after(LONGEST_AGE_S):
                    await changed.wait()
                changed = anyio.Event()
        finally:
            unsubscribe()
        handler.close()

    async def _still(self, ctx: ServerRequestContext[Any, Any], known: Caller | None) -> Caller | None:
        try:
            return await self._callers.caller_still(ctx)
        except Exception as error:  # an outage has many types, of the driver, the pool and the socket
            if not is_outage(error):
                raise
            return known  # the database is away: ask again later


def is_readable(visible: Visible, uri: str) -> bool:
    """Whether the caller may read this resource."""
    try:
        visible.resource(uri)
    except (LookupError, ScopeMissing, ToolError):
        return False
    return True


def _reader(catalog: Catalog, caller: Caller) -> Any:
    visible = caller.sees(catalog)
    return lambda uri: is_readable(visible, uri)


def _nothing(uri: str) -> bool:
    return False
