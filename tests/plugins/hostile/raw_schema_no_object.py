from __future__ import annotations

from pydantic import BaseModel

from mercato import Category, hookimpl

category = Category("raw_schema_no_object", "Has a tool that cannot be one.")


class Answer(BaseModel):
    text: str


@category.raw_tool(read_only=True, input_schema={"type": "array"})
async def answer_raw(ctx, arguments):
    """Answer."""
    return Answer(text="x")


@hookimpl
def register_categories():
    return [category]
