from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

category = Category("untyped_parameter", "Has a tool that cannot be one.")


class Answer(BaseModel):
    text: str


@category.tool(read_only=True)
async def answer_untyped(ctx: ToolContext, name) -> Answer:
    """Answer."""
    return Answer(text="x")


@hookimpl
def register_categories():
    return [category]
