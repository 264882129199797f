"""What a tool answered: its structured content, or the text of its error."""

from __future__ import annotations

from typing import Any


async def ask(mcp: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await mcp.call_tool(tool, arguments)
    assert not result.is_error, result.content[0].text
    return result.structured_content


async def refusal(mcp: Any, tool: str, **arguments: Any) -> str:
    result = await mcp.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    return result.content[0].text


async def every_page(mcp: Any, tool: str, rows: str, **arguments: Any) -> list[int]:
    """The ids on all pages, in order."""
    ids: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask(mcp, tool, **arguments, **cursor)
        ids += [row["id"] for row in page[rows]]
        if page["next_cursor"] is None:
            return ids
        assert len(page[rows]) == arguments.get("limit", 10)
        cursor = {"cursor": page["next_cursor"]}
