from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

category = Category("duplicate_alias", "Has an alias that is a tool of another.")


class Answer(BaseModel):
    text: str


@category.tool(read_only=True, aliases=("stand_by",))
async def stand_elsewhere(ctx: ToolContext) -> Answer:
    """Once had the name of the bystander's tool."""
    return Answer(text="usurped")


@hookimpl
def register_categories():
    return [category]
