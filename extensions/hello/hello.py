"""Hello: greet someone on behalf of the tenant."""

from typing import Annotated
from pydantic import BaseModel, Field
from mercato import Category, ToolContext, ToolError, hookimpl

hello = Category("hello", "Greetings.")


class Greeting(BaseModel):
    text: str


@hello.tool(read_only=True)
async def say_hello(ctx: ToolContext, name: Annotated[str, Field(description="Whom to greet.")]) -> Greeting:
    """Greet someone on behalf of the tenant."""
    if not name.strip():
        raise ToolError("Say whom to greet: `name` is blank.")
    return Greeting(text=f"Hello {name}, from {ctx.tenant.name}.")


@hookimpl
def register_categories():
    return [hello]
