"""The SDK's low-level `Server`. Its handler does the least: no validation of arguments, no authentication."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mcp_types as mcp
from mcp.server import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mercato_bench.shape import answer

from benchmarks.servers.serving import serve

MOST_STREAMS = 20_000


def build(tools: list[mcp.Tool], *, look_up: bool) -> Server[Any]:
    """Return a server of these tools. Without `look_up` the SDK lists them all to check the headers of each call."""
    schemas = {tool.name: tool.input_schema for tool in tools}

    async def list_tools(ctx: Any, params: Any) -> mcp.ListToolsResult:
        return mcp.ListToolsResult(tools=tools)

    async def call_tool(ctx: Any, params: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        if params.name not in schemas:
            raise ValueError(params.name)
        arguments = params.arguments or {}
        structured = answer(arguments["item_id"], arguments["status"]).model_dump(mode="json")
        text = json.dumps(structured, separators=(",", ":"))
        return mcp.CallToolResult(content=[mcp.TextContent(text=text)], structured_content=structured)

    return Server(
        "bench",
        version="1",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_subscriptions_listen=ListenHandler(InMemorySubscriptionBus(), max_subscriptions=MOST_STREAMS),
        get_tool_input_schema=schemas.get if look_up else None,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--no-look-up", action="store_true")
    parser.add_argument("--stateful", action="store_true")
    options = parser.parse_args()
    definitions = [mcp.Tool.model_validate(tool) for tool in json.loads(options.tools.read_text())]
    server = build(definitions, look_up=not options.no_look_up)
    serve(server.streamable_http_app(json_response=True, stateless_http=not options.stateful))
