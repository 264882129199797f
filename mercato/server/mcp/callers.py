"""Who a request of the SDK belongs to: told by the HTTP request, or fixed for a terminal."""

from __future__ import annotations

from typing import Any, Protocol

import mcp_types as mcp
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError

from mercato.server.auth.directory import Caller, Directory
from mercato.tenancy.principal import Principal


class Callers(Protocol):
    """Finds the caller of a request."""

    def principal(self, ctx: ServerRequestContext[Any, Any]) -> Principal:
        """Return who is calling."""

    async def caller(self, ctx: ServerRequestContext[Any, Any]) -> Caller:
        """Return who is calling, and what their tenant has on now."""

    async def caller_still(self, ctx: ServerRequestContext[Any, Any]) -> Caller | None:
        """Return the same, looked up anew for a request that lasts; None where the credential is good no more."""


class HttpCallers:
    """The Authentication middleware has found the caller already."""

    def principal(self, ctx: ServerRequestContext[Any, Any]) -> Principal:
        """Return who is calling."""
        return self._caller(ctx).principal

    async def caller(self, ctx: ServerRequestContext[Any, Any]) -> Caller:
        """Return who is calling, and what their tenant had on when the request came."""
        return self._caller(ctx)

    async def caller_still(self, ctx: ServerRequestContext[Any, Any]) -> Caller | None:
        """Return who is calling, looked up anew."""
        caller: Caller | None = await ctx.request.state.look_again()  # type: ignore[union-attr]  # as in `_caller`
        return caller

    def _caller(self, ctx: ServerRequestContext[Any, Any]) -> Caller:
        caller: Caller = ctx.request.state.caller  # type: ignore[union-attr]  # over HTTP there is a request
        return caller


class LocalCallers:
    """A terminal, or a test: one principal for the life of the process."""

    def __init__(self, principal: Principal, directory: Directory) -> None:
        self._principal = principal
        self._directory = directory

    def principal(self, ctx: ServerRequestContext[Any, Any]) -> Principal:
        """Return who is calling."""
        return self._principal

    async def caller(self, ctx: ServerRequestContext[Any, Any]) -> Caller:
        """Return who is calling, and what their tenant has on now. Raises `MCPError` where it was removed."""
        access = await self._directory.access(self._principal.tenant_id)
        if access is None:
            raise MCPError(mcp.INVALID_REQUEST, "This tenant has been removed.")
        return Caller(self._principal, access)

    async def caller_still(self, ctx: ServerRequestContext[Any, Any]) -> Caller | None:
        """Return who is calling, for as long as the tenant is there."""
        access = await self._directory.access(self._principal.tenant_id)
        return None if access is None else Caller(self._principal, access)
