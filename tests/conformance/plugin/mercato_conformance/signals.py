"""Tools that tell the client something while they run: progress, log messages, changes of the lists."""

from __future__ import annotations

import warnings
from typing import Any

import anyio
import mcp_types as mcp
from mcp.server.subscriptions import PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning

from mercato import Reply, ToolContext
from mercato_conformance.category import Said, conformance, say
from mercato_conformance.requests import said
from mercato_conformance.schemas import NO_ARGUMENTS

_PAUSE_S = 0.05
"""The work that the signals speak of."""


@conformance.tool(read_only=True)
async def test_tool_with_progress(ctx: ToolContext) -> Reply[Said]:
    """Report progress three times."""
    for percent in (0, 50, 100):
        await ctx.progress(percent, 100, f"Completed step {percent} of 100")
        await anyio.sleep(_PAUSE_S)
    return say("Done.")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_tool_with_logging(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Send three log messages."""
    return await _log_thrice(raw)


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_logging_tool(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Send three log messages, where the request asks for them."""
    return await _log_thrice(raw)


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_reconnection(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Close the stream of the call half-way, where the client can come back for the rest."""
    if raw.ctx.close_sse_stream is not None:
        await raw.ctx.close_sse_stream()
    await anyio.sleep(_PAUSE_S)
    return said("Reconnection test completed successfully")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_trigger_tool_change(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Tell listeners that the list of tools has changed."""
    await raw.bus.publish(ToolsListChanged())
    return said("Told.")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_trigger_prompt_change(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Tell listeners that the list of prompts has changed."""
    await raw.bus.publish(PromptsListChanged())
    return said("Told.")


async def _log_thrice(raw: Any) -> mcp.CallToolResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await raw.ctx.session.send_log_message("info", message, related_request_id=raw.ctx.request_id)
            await anyio.sleep(_PAUSE_S)
    return said("Done.")
