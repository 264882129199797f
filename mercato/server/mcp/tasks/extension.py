"""The extension itself: what it is called, and who has declared it."""

from __future__ import annotations

from typing import Any

import mcp_types as mcp
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

EXTENSION = "io.modelcontextprotocol/tasks"


def is_declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client of this request takes tasks: each request of the modern era says so by itself."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and EXTENSION in (capabilities.extensions or {})


def not_declared() -> MCPError:
    """Return the protocol's refusal of a client that has not declared the extension."""
    return MCPError(
        mcp.MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"This needs a client that declares the extension `{EXTENSION}`.",
        {"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
    )
