"""The category, with the tool that must be listed first: the suite calls that one with no arguments."""

from __future__ import annotations

import mcp_types as mcp
from pydantic import BaseModel

from mercato import Category, Reply, ToolContext

conformance = Category("conformance", "What the official MCP conformance suite expects.")


class Said(BaseModel):
    """The text of an answer."""

    text: str


def say(text: str) -> Reply[Said]:
    """Return an answer whose content is this text, not the JSON that a model would be."""
    return Reply(Said(text=text), content=[mcp.TextContent(text=text)])


@conformance.tool(read_only=True)
async def test_simple_text(ctx: ToolContext) -> Reply[Said]:
    """Return a text."""
    return say("This is a simple text response for testing.")
