"""The tools of these tests: each keeps rows, and can be held by the test where it wants."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict

from pydantic import BaseModel

from mercato import Category, Reply, ToolContext, ToolError
from mercato.tenancy.grants import DisabledTool
from tests.inmemory import plugin

probe = Category("probe", "For the tests.")
FOUND = plugin("probe", register_categories=[probe])
_numbers = itertools.count(1)


class Said(BaseModel):
    text: str


class Gate:
    """Holds a tool before it writes, or after. `runs` counts how often it has begun, `writes` how often it wrote."""

    def __init__(self) -> None:
        self.before, self.after = asyncio.Event(), asyncio.Event()
        self.started, self.written = asyncio.Event(), asyncio.Event()
        self.runs = self.writes = 0

    def open(self) -> Gate:
        """Let everything through."""
        self.before.set()
        self.after.set()
        return self


gates: defaultdict[str, Gate] = defaultdict(Gate)


def _kept(ctx: ToolContext) -> str:
    name = f"effect-{next(_numbers)}"
    ctx.db.session.add(DisabledTool(tool=name))
    return name


@probe.tool(read_only=False)
async def keep(ctx: ToolContext, name: str) -> Said:
    """Keep a row."""
    return Said(text=_kept(ctx))


@probe.tool(read_only=False)
async def keep_held(ctx: ToolContext, name: str) -> Said:
    """Keep a row when the test lets it."""
    gate = gates[name]
    gate.runs += 1
    gate.started.set()
    await gate.before.wait()
    text = _kept(ctx)
    await ctx.db.session.flush()
    gate.writes += 1
    gate.written.set()
    await gate.after.wait()
    if name.startswith("fails"):
        raise ToolError("It fails in the end.")
    return Said(text=text)


@probe.tool(read_only=False)
async def keep_stubbornly(ctx: ToolContext, name: str) -> Said:
    """Keep a row, and make another error of whatever goes wrong."""
    gates[name].started.set()
    await gates[name].before.wait()
    try:
        text = _kept(ctx)
        await ctx.db.session.flush()
    except Exception as error:
        if name == "goes on":
            return Said(text="it does not mind")
        raise ToolError("It went wrong.") from error
    return Said(text=text)


@probe.tool(read_only=False)
async def keep_and_hang(ctx: ToolContext, name: str) -> Said:
    """Keep a row, and hang once it is committed."""
    gate = gates[name]

    async def hang() -> None:
        gate.written.set()
        await gate.after.wait()

    ctx._after_commit.append(hang)
    return Said(text=_kept(ctx))


@probe.tool(read_only=False, timeout_s=0.1)
async def keep_soon(ctx: ToolContext, name: str) -> Said:
    """Keep a row, soon."""
    return Said(text=_kept(ctx))


@probe.tool(read_only=False, destructive=True)
async def wipe(ctx: ToolContext, name: str) -> Said:
    """Remove something."""
    return Said(text=_kept(ctx))


@probe.tool(read_only=False)
async def show(ctx: ToolContext, name: str) -> Reply[Said]:
    """Answer with more than a model."""
    _kept(ctx)
    return Reply(Said(text="ä\u2028"), meta={"view": {"n": 1}}, changed=["probe://one"])


@probe.tool(read_only=False)
async def make_secret(ctx: ToolContext, name: str) -> Said:
    """Answer with what is shown once."""
    _kept(ctx)
    return Said(text="mck_hush")


@probe.tool(read_only=True)
async def look(ctx: ToolContext) -> Said:
    """Look."""
    return Said(text="seen")
