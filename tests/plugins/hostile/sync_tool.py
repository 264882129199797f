from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

category = Category("sync_tool", "Has a tool that cannot be one.")


class Answer(BaseModel):
    text: str


@category.tool(read_only=True)
def answer_now(ctx: ToolContext) -> Answer:
    """Answer."""
    return Answer(text="x")


@hookimpl
def register_categories():
    return [category]
