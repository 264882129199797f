"""Tools that run as tasks, and one that never does."""

from __future__ import annotations

import asyncio
from typing import Annotated

import mcp_types as mcp
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field

from mercato import Reply, ToolContext, ToolError
from mercato_conformance.category import Said, conformance, say

_MOMENT_S = 1.0


class Approval(BaseModel):
    """Yes or no."""

    confirm: bool


class Person(BaseModel):
    """Who somebody is."""

    name: str


@conformance.tool(read_only=True)
async def greet(ctx: ToolContext, name: Annotated[str, Field(description="Whom to greet.")]) -> Reply[Said]:
    """Greet somebody at once."""
    return say(f"Hello, {name}!")


@conformance.tool(read_only=True, task="allowed", timeout_s=120)
async def slow_compute(
    ctx: ToolContext,
    seconds: Annotated[float, Field(ge=0, le=100, description="How long it takes.")],
    label: Annotated[str, Field(description="What the result is called.")] = "",
) -> Reply[Said]:
    """Take some seconds."""
    await asyncio.sleep(seconds)
    return say(f"Computed {label}.")


@conformance.tool(read_only=True, task="required")
async def failing_job(ctx: ToolContext) -> Said:
    """Fail after a moment, in the way that the model reads."""
    await asyncio.sleep(_MOMENT_S)
    raise ToolError("This job always fails.")


@conformance.tool(read_only=True, task="required")
async def protocol_error_job(ctx: ToolContext) -> Said:
    """Fail as the protocol does."""
    raise MCPError(mcp.INTERNAL_ERROR, "This job ends in an error of the protocol.")


@conformance.tool(read_only=True, task="required")
async def confirm_delete(
    ctx: ToolContext, filename: Annotated[str, Field(description="What is to go.")]
) -> Reply[Said]:
    """Ask before something is deleted, which then is not."""
    answer = await ctx.ask(f"Delete {filename}?", Approval)
    return say(f"{filename} would be {'deleted' if answer.confirm else 'kept'}.")


@conformance.tool(read_only=True, task="required")
async def multi_input(ctx: ToolContext) -> Reply[Said]:
    """Ask two things at once."""
    first, second = await asyncio.gather(
        ctx.ask("The first?", Person, key="first"), ctx.ask("The second?", Person, key="second")
    )
    return say(f"{first.name} and {second.name}.")


async def _whom(ctx: ToolContext) -> Person:
    return await ctx.ask("What is your name?", Person, key="user_name")


@conformance.tool(read_only=True, task="required", asks=_whom)
async def test_tool_with_task(ctx: ToolContext) -> Reply[Said]:
    """Ask for a name before the task begins, and greet within it."""
    person = await _whom(ctx)
    return say(f"Hello, {person.name}!")
