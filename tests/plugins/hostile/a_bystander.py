"""Does nothing wrong: it must go on working whatever the others do. Its name sorts before theirs."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from mercato import Category, ToolContext, hookimpl

bystander = Category("bystander", "Stands by.")


class Standing(BaseModel):
    text: str


@bystander.tool(read_only=True, aliases=("stood_by",))
async def stand_by(ctx: ToolContext) -> Standing:
    """Stand by."""
    return Standing(text=ctx.tenant.name)


@bystander.resource("bystander://state")
async def state(ctx: ToolContext) -> str:
    """Say how it stands."""
    return "standing"


@bystander.prompt()
async def ask_to_stand(ctx: ToolContext) -> str:
    """Ask to stand by."""
    return "Stand by."


@hookimpl
def register_categories() -> list[Category]:
    return [bystander]


@hookimpl
def register_migrations() -> Path:
    return Path(__file__).parent / "good_versions"
