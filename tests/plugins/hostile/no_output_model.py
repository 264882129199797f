from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

category = Category("no_output_model", "Has a tool that cannot be one.")


class Answer(BaseModel):
    text: str


@category.tool(read_only=True)
async def answer_any(ctx: ToolContext) -> dict:
    """Answer."""
    return Answer(text="x")


@hookimpl
def register_categories():
    return [category]
