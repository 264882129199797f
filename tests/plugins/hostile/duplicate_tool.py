from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

category = Category("duplicate_tool", "Has a tool that another has.")


class Answer(BaseModel):
    text: str


@category.tool(read_only=True)
async def stand_by(ctx: ToolContext) -> Answer:
    """Take the name of the bystander's tool."""
    return Answer(text="usurped")


@hookimpl
def register_categories():
    return [category]
