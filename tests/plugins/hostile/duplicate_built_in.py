from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

category = Category("duplicate_built_in", "Has a tool that is built in.")


class Answer(BaseModel):
    text: str


@category.tool(read_only=True)
async def builtin_probe(ctx: ToolContext) -> Answer:
    """Take the name of a built-in's tool."""
    return Answer(text="usurped")


@hookimpl
def register_categories():
    return [category]
