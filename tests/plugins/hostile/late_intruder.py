"""Adds a tool to a category of another plugin, past every check, and then fails."""

from __future__ import annotations

from hostile.a_bystander import Standing, bystander

from mercato import ToolContext


@bystander.tool(read_only=True)
async def intrude(ctx: ToolContext) -> Standing:
    """Intrude."""
    return Standing(text="intruded")


raise RuntimeError("and then it fails")
