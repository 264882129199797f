"""Tools whose input schema is what is tested: JSON Schema 2020-12 word for word, and a parameter sent as a header."""

from __future__ import annotations

import json
from typing import Annotated, Any

import mcp_types as mcp
from pydantic import Field

from mercato import Reply, ToolContext
from mercato_conformance.category import Said, conformance, say

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
_TEXT = {"type": "string"}
_EVERY_KEYWORD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {"$anchor": "addressDef", "type": "object", "properties": {"street": _TEXT, "city": _TEXT}},
    },
    "properties": {
        "name": _TEXT,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": _TEXT,
        "email": _TEXT,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@conformance.raw_tool(input_schema=_EVERY_KEYWORD, read_only=True)
async def json_schema_2020_12_tool(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Return the arguments that it was called with."""
    return mcp.CallToolResult(content=[mcp.TextContent(text=json.dumps(arguments))])


@conformance.tool(read_only=True)
async def test_x_mcp_header(
    ctx: ToolContext,
    region: Annotated[
        str | None, Field(description="Any region.", json_schema_extra={"x-mcp-header": "Region"})
    ] = None,  # noqa: PT028  # a tool, no test
) -> Reply[Said]:
    """Return the region, which the client repeats in the header `Mcp-Param-Region`."""
    return say(f"The region is {region}.")
