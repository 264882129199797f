"""The shape of the catalogue: names, descriptions, six parameters, one answer. About 2 KB of definition to a tool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

VERBS = ("search", "list", "get", "sum", "compare", "rank", "count", "export", "forecast", "review", "match", "audit")
NOUNS = ("orders", "customers", "products", "shipments", "campaigns", "creators", "bookings")
MOST_TOOLS = len(VERBS) * len(NOUNS)
MEASURED = "bench_search_orders"
ARGUMENTS: dict[str, Any] = {"item_id": 4711, "query": "blue shoes", "status": "open", "limit": 10}
"""What every measured call sends: four of the six parameters."""

ItemId = Annotated[int, Field(description="The id of the item to begin with, as an earlier answer gave it.", ge=1)]
Query = Annotated[str, Field(description="Words that must occur in the title or the note; empty for all items.")]
Status = Annotated[Literal["open", "done", "cancelled"], Field(description="Only items in this status.")]
Limit = Annotated[int, Field(description="How many items to return at most, between 1 and 25.", ge=1, le=25)]
Since = Annotated[str, Field(description="Only items changed since this time, ISO 8601 with a zone; empty for all.")]
Full = Annotated[bool, Field(description="Whether to return every field instead of the ones that are usually read.")]


class Line(BaseModel):
    """One line of an item."""

    sku: str = Field(description="The stock keeping unit.")
    title: str = Field(description="What it is called in the shop, without its variant.")
    quantity: int = Field(description="How many were taken.")
    price_minor: int = Field(description="The price of one, in minor units of the item's currency.")


class Answer(BaseModel):
    """What every tool returns."""

    id: int = Field(description="The id of the item.")
    name: str = Field(description="The name that people know it by.")
    status: str = Field(description="Where it stands: open, done or cancelled.")
    currency: str = Field(description="The ISO 4217 currency of all amounts in this answer.")
    total_minor: int = Field(description="What all lines come to, in minor units of the currency.")
    note: str | None = Field(description="What somebody wrote about it; written by people, not by this server.")
    lines: list[Line] = Field(description="Its lines, in the order in which they were added.")


def names(count: int) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of the first `count` tools."""
    pairs = [(verb, noun) for noun in NOUNS for verb in VERBS]
    for verb, noun in pairs[:count]:
        text = f"{verb.capitalize()} {noun} of the business. Use it when the person asks about {noun} in general,"
        yield f"bench_{verb}_{noun}", f"{text} or about one by id; for anything else there is a sibling."


def answer(item_id: int, status: str) -> Answer:
    """Return an answer that costs nothing to find."""
    line = Line(sku="SHOE-42-BLUE", title="Running shoe", quantity=2, price_minor=4995)
    return Answer(
        id=item_id, name=f"#{item_id}", status=status, currency="EUR", total_minor=9990, note=None, lines=[line]
    )


def plain_tool(name: str, description: str) -> Callable[..., Awaitable[Answer]]:
    """Return a tool's function as peers take it: without a context."""

    async def tool(
        item_id: ItemId,
        query: Query = "",
        status: Status = "open",
        limit: Limit = 10,
        since: Since = "",
        full: Full = False,
    ) -> Answer:
        return answer(item_id, status)

    return _named(tool, name, description)


def tool_with_context(name: str, description: str) -> Callable[..., Awaitable[Answer]]:
    """Return a tool's function as mercato takes it: with its context first."""

    async def tool(
        ctx: Any,
        item_id: ItemId,
        query: Query = "",
        status: Status = "open",
        limit: Limit = 10,
        since: Since = "",
        full: Full = False,
    ) -> Answer:
        return answer(item_id, status)

    return _named(tool, name, description)


def _named(tool: Callable[..., Awaitable[Answer]], name: str, description: str) -> Callable[..., Awaitable[Answer]]:
    tool.__name__ = tool.__qualname__ = name
    tool.__doc__ = description
    return tool
