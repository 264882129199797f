from __future__ import annotations

from mercato import Category, ToolContext, hookimpl

category = Category("duplicate_prompt", "Has a prompt that another has.")


@category.prompt()
async def ask_to_stand(ctx: ToolContext) -> str:
    """Usurp the prompt."""
    return "usurped"


@hookimpl
def register_categories():
    return [category]
