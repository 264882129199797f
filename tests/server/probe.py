"""A plugin of the tests: one tool for each thing that the wire must carry."""

from __future__ import annotations

from typing import Annotated

import anyio
from pydantic import BaseModel, Field

from mercato import Category, Reply, ToolContext, ToolError, hookimpl
from mercato.plugins.manager import Found

probe = Category("probe", "Tools of the tests.")


class Said(BaseModel):
    text: str


class Log:
    """What the tools did, for the tests to look at."""

    def __init__(self) -> None:
        self.started = anyio.Event()
        self.cancelled = anyio.Event()
        self.told = anyio.Event()


log = Log()


@probe.tool(read_only=True)
async def echo(
    ctx: ToolContext,
    text: Annotated[str, Field(description="What to say.")] = "nothing",
) -> Said:
    """Say the same again."""
    return Said(text=f"{ctx.tenant.slug}: {text}")


@probe.tool(read_only=True)
async def route(
    ctx: ToolContext,
    text: Annotated[str, Field(description="Where to.", json_schema_extra={"x-mcp-header": "Text"})] = "here",
) -> Said:
    """Say where, in a parameter that travels as a header too."""
    return Said(text=text)


@probe.tool(read_only=True)
async def wait_for_ever(ctx: ToolContext) -> Said:
    """Wait until cancelled."""
    log.started.set()
    try:
        await anyio.sleep_forever()
    except BaseException:
        log.cancelled.set()
        raise


@probe.tool(read_only=True)
async def wait_until_told(ctx: ToolContext) -> Said:
    """Wait until the test says so."""
    log.started.set()
    await log.told.wait()
    return Said(text="told")


class Name(BaseModel):
    name: str = Field(description="What you are called.")


@probe.tool(read_only=True)
async def ask_name(ctx: ToolContext) -> Said:
    """Ask for a name."""
    return Said(text=(await ctx.ask("Who are you?", Name)).name)


@probe.tool(read_only=True)
async def break_down(ctx: ToolContext) -> Said:
    """Fail with words that must not leave the server."""
    raise RuntimeError("select * from secrets where password = 'hunter2'")


@probe.tool(read_only=True)
async def refuse(ctx: ToolContext) -> Said:
    """Fail with words for the model."""
    raise ToolError("There is no such thing.", field="thing", allowed=["this", "that"], next_step="Try `that`.")


@probe.tool(read_only=True)
async def pay(ctx: ToolContext, cents: Annotated[int, Field(description="How many cents.")]) -> Said:
    """Do what costs money."""
    await ctx.spend(cents)
    return Said(text=f"{cents} cents")


@probe.tool(read_only=True, admin=True)
async def administer(ctx: ToolContext) -> Said:
    """Only for owners and admins."""
    return Said(text="done")


@probe.tool(read_only=True, requires=("shopify",))
async def count_shop(ctx: ToolContext) -> Said:
    """Needs a shop."""
    connected = await ctx.connection("shopify")
    return Said(text=f"{connected.account} {connected.credentials['token'][:3]}")


@probe.tool(read_only=False)
async def change(ctx: ToolContext) -> Reply:
    """Change the thing at probe://thing."""
    _ = ctx.db.session
    return Reply(Said(text="changed"), changed=["probe://thing"])


@probe.tool(read_only=False, destructive=True)
async def wipe(ctx: ToolContext, what: Annotated[str, Field(description="What to wipe.")]) -> Said:
    """Remove something for good."""
    return Said(text=f"wiped {what}")


@probe.tool(read_only=True)
async def count_up(ctx: ToolContext) -> Said:
    """Report progress."""
    for done in (1, 2, 3):
        await ctx.progress(done, 3, f"step {done}")
    return Said(text="counted")


@probe.resource("probe://thing", mime_type="text/plain")
async def thing(ctx: ToolContext) -> str:
    """The thing."""
    return f"the thing of {ctx.tenant.slug}"


async def _letters(ctx: ToolContext, typed: str) -> list[str]:
    return [letter for letter in ("alpha", "beta") if letter.startswith(typed)]


@probe.resource("probe://letters/{letter}", complete={"letter": _letters})
async def letter_of(ctx: ToolContext, letter: str) -> Said:
    """One letter."""
    if letter not in {"alpha", "beta"}:
        raise LookupError(letter)
    return Said(text=letter)


@probe.prompt(complete={"topic": _letters})
async def talk_about(ctx: ToolContext, topic: Annotated[str, Field(description="About what.")]) -> str:
    """Talk about something."""
    return f"Talk about {topic}."


class Plugin:
    """The probe as a plugin."""

    @hookimpl
    def register_categories(self) -> list[Category]:
        return [probe]


FOUND = Found("probe", "tests", "1.0", False, Plugin)
