"""The tools of these tests, each of which may be a task: they write, wait, ask, fail, as the test says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Annotated

from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field
from sqlmodel import select

from mercato import Category, Reply, ToolContext, ToolError
from mercato.tenancy.grants import DisabledTool
from tests.inmemory import plugin

category = Category("background", "Tools that take their time.")


class Said(BaseModel):
    text: str


class Name(BaseModel):
    name: str


class Gate:
    """Holds a tool until the test lets it go on."""

    def __init__(self) -> None:
        self.started, self.free = asyncio.Event(), asyncio.Event()
        self.runs = 0


gates: defaultdict[str, Gate] = defaultdict(Gate)
Word = Annotated[str, Field(description="A word of the test.")]


@category.tool(read_only=False, task="allowed", timeout_s=60)
async def keep(ctx: ToolContext, word: Word, held: bool = False) -> Reply[Said]:
    """Keep a word, and wait if the test says so."""
    gate = gates[word]
    gate.runs += 1
    ctx.db.session.add(DisabledTool(tool=f"{word}-{gate.runs}"))
    await ctx.db.session.flush()
    gate.started.set()
    await ctx.progress(1, 2, f"kept {word}")
    if held:
        await gate.free.wait()
    return Reply(Said(text=f"{word} for {ctx.tenant.slug} by {ctx.user.kind}"), changed=["background://words"])


@category.resource("background://words", mime_type="text/plain")
async def words(ctx: ToolContext) -> str:
    """The words that were kept."""
    return ", ".join(row.tool for row in await ctx.db.rows(select(DisabledTool.tool).order_by(DisabledTool.tool)))


@category.tool(read_only=True, task="required")
async def look(ctx: ToolContext, long: bool = False) -> Said:
    """Read only; the answer may be long."""
    return Said(text="x" * 39_000 if long else "seen")


@category.tool(read_only=True, task="required")
async def stumble(ctx: ToolContext, how: Word) -> Said:
    """Fail as it is told."""
    if how == "tool":
        raise ToolError("It cannot be done.")
    if how == "protocol":
        raise MCPError(-32050, "The protocol says no.", {"why": how})
    raise RuntimeError("select password from users")


@category.tool(read_only=False, task="required")
async def ask_twice(ctx: ToolContext, word: Word) -> Said:
    """Ask two things at once, and then a third."""
    first, second = await asyncio.gather(
        ctx.ask("The first?", Name, key="first"), ctx.ask("The second?", Name, key="second")
    )
    third = await ctx.ask("The third?", Name, key="third")
    ctx.db.session.add(DisabledTool(tool=word))
    return Said(text=f"{first.name} {second.name} {third.name}")


@category.tool(read_only=True, task="required")
async def mumble(ctx: ToolContext) -> Said:
    """Report progress that cannot be written down as it is."""
    for done, total, message in ((float("nan"), 1, "never"), (1, float("inf"), "a\0b" + "c" * 1_000)):
        await ctx.progress(done, total, message)
        await asyncio.sleep(0.3)  # not so soon that it would be left out
    return Said(text="mumbled")


class Number(BaseModel):
    value: int


@category.tool(read_only=True, task="required")
async def ask_number(ctx: ToolContext) -> Said:
    """Ask for a number of any size."""
    return Said(text=str((await ctx.ask("How many?", Number, key="number")).value))


async def _whom(ctx: ToolContext) -> Name:
    return await ctx.ask("Whom?", Name, key="whom")


async def _ask_whom(ctx: ToolContext, word: str) -> Name:
    return await _whom(ctx)


@category.tool(read_only=False, task="required", asks=_ask_whom)
async def greet(ctx: ToolContext, word: Word) -> Said:
    """Ask before the task begins."""
    return Said(text=f"{word} {(await _whom(ctx)).name}")


@category.tool(read_only=False, destructive=True, task="allowed")
async def wipe(ctx: ToolContext, word: Word) -> Said:
    """Remove a word for good."""
    gates[word].runs += 1
    return Said(text=f"wiped {word}")


@category.tool(read_only=False, task="required")
async def spend(ctx: ToolContext, cents: Annotated[int, Field(description="How many.")]) -> Said:
    """Spend some cents."""
    _ = ctx.db.session
    await ctx.spend(cents)
    return Said(text="spent")


FOUND = plugin("background", register_categories=[category])
