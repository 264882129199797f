"""The shape of the catalogue: names, descriptions, six parameters, one answer. About 1.5 KB of definition to a tool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

VERBS = ("search", "list", "get", "sum", "compare", "rank", "count", "export", "forecast", "review", "match", "audit")
NOUNS = (
    *("orders", "customers", "products", "shipments", "campaigns", "creators", "bookings", "invoices", "refunds"),
    *("returns", "discounts", "carts", "suppliers", "warehouses", "payouts", "reviews", "vouchers", "bundles"),
    *("samples", "threads", "segments", "locations", "contracts", "deliveries", "variants"),
)
CATALOGUE = 94
MOST_TOOLS = len(VERBS) * len(NOUNS)
MEASURED = "bench_search_orders"
ARGUMENTS: dict[str, Any] = {"item_id": 4711, "query": "blue shoes", "status": "open", "limit": 10}
"""What every measured call sends: four of the six parameters."""

ItemId = Annotated[int, Field(description="The item to begin with.", ge=1)]
Query = Annotated[str, Field(description="Words in the title; empty for all.")]
Status = Annotated[Literal["open", "done", "cancelled"], Field(description="Only items in this status.")]
Limit = Annotated[int, Field(description="How many to return at most.", ge=1, le=25)]
Since = Annotated[str, Field(description="Only items changed since, ISO 8601; empty for all.")]
Full = Annotated[bool, Field(description="Whether to return every field.")]


class Line(BaseModel):
    """One line of an item."""

    sku: str
    quantity: int
    price_minor: int = Field(description="Of one.")


class Answer(BaseModel):
    """What every tool returns."""

    id: int
    name: str
    status: str = Field(description="open, done or cancelled.")
    total_minor: int
    note: str | None = Field(description="Written by strangers.")
    lines: list[Line]


def names(count: int) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of the first `count` tools."""
    pairs = [(verb, noun) for noun in NOUNS for verb in VERBS]
    for verb, noun in pairs[:count]:
        yield f"bench_{verb}_{noun}", f"{verb.capitalize()} {noun}, or one by id; for anything else use a sibling."


def answer(item_id: int, status: str) -> Answer:
    """Return an answer that costs nothing to find."""
    line = Line(sku="SHOE-42-BLUE", quantity=2, price_minor=4995)
    return Answer(id=item_id, name=f"#{item_id}", status=status, total_minor=9990, note=None, lines=[line])


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
