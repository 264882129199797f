from __future__ import annotations

from pydantic import RootModel

from mercato import Category, ToolContext, hookimpl

category = Category("output_is_a_list", "Has a tool that cannot be one.")


class Many(RootModel[list[str]]):
    pass


@category.tool(read_only=True)
async def answer_many(ctx: ToolContext) -> Many:
    """Answer."""
    return Many(["x"])


@hookimpl
def register_categories():
    return [category]
