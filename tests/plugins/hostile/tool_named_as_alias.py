from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

category = Category("tool_named_as_alias", "Has a tool whose name is an alias of another.")


class Answer(BaseModel):
    text: str


@category.tool(read_only=True)
async def stood_by(ctx: ToolContext) -> Answer:
    """Take the former name of the bystander's tool."""
    return Answer(text="usurped")


@hookimpl
def register_categories():
    return [category]
