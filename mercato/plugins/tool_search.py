"""The tool `search_tools`: it answers with what its caller may call, and how each is called."""

from __future__ import annotations

from collections import Counter
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import BaseModel, Field

from mercato.tools.context import ToolContext
from mercato.tools.tool import Tool

if TYPE_CHECKING:
    from mercato.plugins.catalog import Visible

CATEGORY = "search"
EXECUTE_READ, EXECUTE_WRITE = "execute_read", "execute_write"
MOST_HITS = 5
_MOST_BYTES = 20_000
"""Of definitions in one answer; a single one has less, whatever plugin it comes from."""


class ToolHit(BaseModel):
    """A tool that fits: pass its `name` and arguments to `execute`."""

    name: str
    execute: Literal["execute_read", "execute_write"]
    description: str
    input_schema: dict[str, Any]
    hints: list[Literal["destructive", "idempotent", "open_world"]]


class CategoryTools(BaseModel):
    """A category, and how many tools of it can be called."""

    category: str
    description: str
    tools: int


class ToolHits(BaseModel):
    """The tools that fit best, and how many more do. `categories` has what there is, where no tool was found."""

    tools: list[ToolHit]
    left_out: int
    categories: list[CategoryTools]


async def search_tools(
    ctx: ToolContext,
    query: Annotated[
        str, Field(max_length=200, description="What to do, in a few words (`cancel an order`), or a tool's name.")
    ] = "",
    limit: Annotated[int, Field(ge=1, le=MOST_HITS, description="At most so many tools.")] = MOST_HITS,
) -> ToolHits:
    """Find tools, of which most are not listed: begin here.

    Each comes with its input schema, and with what runs it: `execute_read` or `execute_write`. `left_out` says how
    many more fit: say more precisely what to do. Without a query it tells the categories.
    """
    raise RuntimeError("`search_tools` runs only for a caller: see `for_caller`")


SEARCH = Tool(search_tools, CATEGORY, read_only=True, idempotent=True, title="Search tools")


def for_caller(visible: Visible) -> Tool:
    """Return the tool as it runs for one caller: over what they see."""

    async def search(ctx: ToolContext, query: str, limit: int) -> ToolHits:
        return find(visible, query, limit)

    tool = copy(SEARCH)  # with the schemas, which take milliseconds to make
    object.__setattr__(tool, "function", search)
    return tool


def find(visible: Visible, query: str, limit: int = MOST_HITS) -> ToolHits:
    """Return the tools a caller may call that fit a query, as many as an answer has room for."""
    callable_now = {tool.name: tool for tool in visible.tools()}
    ranked = visible.catalog.index.ranked(query, callable_now)
    hits: list[ToolHit] = []
    room = _MOST_BYTES
    for tool in (callable_now[name] for name in ranked[:limit]):
        room -= len(orjson.dumps([tool.description, tool.input_schema]))
        if hits and room < 0:
            break
        hits.append(_hit(tool))
    return ToolHits(
        tools=hits,
        left_out=len(ranked) - len(hits),
        categories=[] if hits else _categories(visible, Counter(tool.category for tool in callable_now.values())),
    )


def _hit(tool: Tool) -> ToolHit:
    hints = {"destructive": tool.destructive, "idempotent": tool.idempotent, "open_world": tool.open_world}
    return ToolHit(
        name=tool.name,
        execute=EXECUTE_READ if tool.read_only else EXECUTE_WRITE,
        description=tool.description,
        input_schema=tool.input_schema,
        hints=[hint for hint, holds in hints.items() if holds],
    )


def _categories(visible: Visible, counts: Counter[str]) -> list[CategoryTools]:
    known = visible.catalog.categories
    return [
        CategoryTools(category=name, description=known[name].description, tools=count)
        for name, count in sorted(counts.items())
    ]
