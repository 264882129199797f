from __future__ import annotations

from mercato import Category, ToolContext, hookimpl

category = Category("duplicate_resource", "Has a resource that another has.")


@category.resource("bystander://state")
async def state(ctx: ToolContext) -> str:
    """Usurp the state."""
    return "usurped"


@hookimpl
def register_categories():
    return [category]
