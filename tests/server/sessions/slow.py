"""A plugin of the tests whose tools wait for the test: a gate for each name, open or shut."""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import Annotated, Any

import anyio
import mcp_types as mcp
from mcp.shared.exceptions import MCPDeprecationWarning
from pydantic import BaseModel, Field

from mercato import Category, Reply, ToolContext, hookimpl
from mercato.plugins.manager import Found

slow = Category("slow", "Tools that wait.")
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
NAMED: dict[str, Any] = {"type": "object", "properties": {"gate": {"type": "string", "description": "Which one."}}}


class Gate:
    """What a tool waits at, and what it has done so far."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.opened = anyio.Event()
        self.cancelled = anyio.Event()
        self.passed = 0


gates: dict[str, Gate] = defaultdict(Gate)


class Fate:
    """What a tool was told of its answer."""

    def __init__(self) -> None:
        self.delivered: bool | None = None
        self.settled = anyio.Event()
        self.abandoned = anyio.Event()

    def settle(self, delivered: bool) -> None:
        self.delivered = delivered
        self.settled.set()


fates: dict[str, Fate] = defaultdict(Fate)


class Said(BaseModel):
    text: str


class Answer(BaseModel):
    name: Annotated[str, Field(description="A name.")]


async def wait_at(name: str) -> None:
    gate = gates[name]
    gate.reached.set()
    try:
        await gate.opened.wait()
    except BaseException:
        gate.cancelled.set()
        raise
    gate.passed += 1


@slow.tool(read_only=True)
async def echo(ctx: ToolContext, text: Annotated[str, Field(description="What to say.")] = "nothing") -> Said:
    """Say the same again."""
    return Said(text=f"{ctx.tenant.slug}: {text}")


@slow.tool(read_only=True)
async def wait(ctx: ToolContext, gate: Annotated[str, Field(description="Which one.")]) -> Said:
    """Wait at a gate."""
    await wait_at(gate)
    return Said(text=f"passed {gate}")


@slow.tool(read_only=True)
async def step(ctx: ToolContext, gate: Annotated[str, Field(description="Which one.")]) -> Said:
    """Report progress, wait at a gate, and report once more."""
    await ctx.progress(1, 3, "before")
    await wait_at(gate)
    await ctx.progress(2, 3, "after")
    return Said(text=f"passed {gate}")


@slow.tool(read_only=True)
async def ask(ctx: ToolContext) -> Said:
    """Ask for a name."""
    answer = await ctx.ask("Who are you?", Answer)
    return Said(text=f"Hello, {answer.name}!")


@slow.tool(read_only=False)
async def change(ctx: ToolContext) -> Reply:
    """Change the thing."""
    _ = ctx.db.session
    return Reply(Said(text="changed"), changed=["slow://thing"])


@slow.raw_tool(input_schema=NAMED, read_only=True)
async def poll(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Have the client come back for the answer."""
    raw.ctx.request.state.delivery.on_abandoned = fates[arguments["gate"]].abandoned.set
    if raw.ctx.close_sse_stream is not None:
        await raw.ctx.close_sse_stream()
    await wait_at(arguments["gate"])
    return said("polled")


@slow.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def roots(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Ask for the client's roots, which the SDK does on the session's own stream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        found = await raw.ctx.session.list_roots()
    return said(", ".join(str(root.uri) for root in found.roots))


@slow.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def log(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Send a log message of each of three levels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        for level in ("debug", "info", "error"):
            await raw.ctx.session.send_log_message(level, f"said {level}", related_request_id=raw.ctx.request_id)
    return said("logged")


@slow.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def flood(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Send more than a client that does not read can be sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        for _ in range(300):
            await raw.ctx.session.send_log_message("info", "x" * 20_000, related_request_id=raw.ctx.request_id)
    return said("flooded")


@slow.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def large(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Answer with a lot, right after something else."""
    await raw.ctx.session.report_progress(1)
    return said("x" * 3_000_000)


@slow.raw_tool(input_schema=NAMED, read_only=True)
async def deliver(raw: Any, arguments: dict[str, Any]) -> mcp.CallToolResult:
    """Wait at a gate, and note whether the answer reaches its client."""
    fate, delivery = fates[arguments["gate"]], raw.ctx.request.state.delivery
    delivery.on_settled, delivery.on_abandoned = fate.settle, fate.abandoned.set
    await raw.ctx.session.report_progress(1)
    await wait_at(arguments["gate"])
    return said("done")


@slow.resource("slow://thing", mime_type="text/plain")
async def thing(ctx: ToolContext) -> str:
    """The thing."""
    return f"the thing of {ctx.tenant.slug}"


def said(text: str) -> mcp.CallToolResult:
    return mcp.CallToolResult(content=[mcp.TextContent(text=text)])


class Plugin:
    """The tools as a plugin."""

    @hookimpl
    def register_categories(self) -> list[Category]:
        return [slow]


FOUND = Found("slow", "tests", "1.0", False, Plugin)
