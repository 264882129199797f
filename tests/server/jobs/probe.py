"""The jobs of these tests: each keeps rows, fails as it is told, or is held by the test."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from pydantic import BaseModel

from mercato import Category
from mercato.plugins.events import Event, TenantEvent
from mercato.plugins.jobs import Backoff, Permanent, Retry, job
from mercato.tenancy.grants import DisabledTool
from mercato.tools.context import JobContext
from mercato.tools.errors import ToolError
from tests.inmemory import plugin
from tests.server.jobs import partner

AT_ONCE = Backoff(attempts=3, base_s=0, jitter=0)


class Sold(BaseModel):
    order_id: int


class Gate:
    """Holds a job until the test lets it go on."""

    def __init__(self) -> None:
        self.started, self.free = asyncio.Event(), asyncio.Event()
        self.runs = 0


gates: defaultdict[str, Gate] = defaultdict(Gate)
seen: list[tuple[str, Any]] = []
sold = Event("probe.sold", Sold, "An order was placed.")


@job("probe.keep", retries=AT_ONCE)
async def keep(ctx: JobContext, name: str) -> dict[str, Any]:
    """Keep a row."""
    ctx.db.session.add(DisabledTool(tool=f"{name}-{ctx.run_id}"))
    return {"kept": name, "tenant": ctx.tenant.slug, "attempt": ctx.attempt}


@job("probe.fail", retries=AT_ONCE)
async def fail(ctx: JobContext, how: str, times: int = 99) -> None:
    """Keep a row, and fail."""
    ctx.db.session.add(DisabledTool(tool=f"failed-{ctx.run_id}-{ctx.attempt}"))
    await ctx.db.session.flush()
    if ctx.attempt > times:
        return
    match how:
        case "permanent":
            raise Permanent("it cannot be")
        case "retry":
            raise Retry(30, "not yet")
        case "tool":
            raise ToolError("The shop says no.")
        case "secret":
            raise RuntimeError("the key mck_abcdefgh12345678 is wrong")
        case _:
            raise RuntimeError(how)


@job("probe.hold", timeout_s=60)
async def hold(ctx: JobContext, name: str, writes: bool = False) -> None:
    """Wait for the test."""
    gate = gates[name]
    gate.runs += 1
    gate.started.set()
    if writes:
        ctx.db.session.add(DisabledTool(tool=f"held-{ctx.run_id}-{ctx.attempt}"))
        await ctx.db.session.flush()
    await gate.free.wait()


@job("probe.stubborn", retries=Backoff(attempts=1))
async def stubborn(ctx: JobContext, name: str) -> None:
    """Wait for the test, and make another error of being cancelled."""
    try:
        await hold.function(ctx, name)
    except asyncio.CancelledError:
        raise RuntimeError("it was in the middle of something") from None


@job("probe.slow", timeout_s=0.05, retries=Backoff(attempts=1))
async def slow(ctx: JobContext) -> None:
    """Take too long."""
    await asyncio.Event().wait()


@job("probe.single", concurrency=1)
async def single(ctx: JobContext, name: str) -> None:
    """Run alone everywhere."""
    await hold.function(ctx, name)


@job("probe.one_each", tenant_concurrency=1)
async def one_each(ctx: JobContext, name: str) -> None:
    """Run alone for each tenant."""
    await hold.function(ctx, name)


@job("probe.note")
async def note(ctx: JobContext, word: str) -> None:
    """Note that it ran, and write nothing."""
    seen.append((ctx.tenant.slug, word))


@job("probe.follow", on=sold)
async def follow(ctx: JobContext, event: TenantEvent[Sold]) -> None:
    """Follow an order."""
    seen.append((ctx.tenant.slug, event))


@job("probe.odd_result")
async def odd_result(ctx: JobContext) -> dict[str, Any]:
    """Return what cannot be stored."""
    return {"text": "a\0b"}


@job("probe.leave", retries=AT_ONCE)
async def leave(ctx: JobContext) -> None:
    """Try to end the process."""
    raise SystemExit(3)


@job("probe.large_result")
async def large_result(ctx: JobContext) -> dict[str, str]:
    """Return too much."""
    return {"text": "x" * 100_000}


@job("probe.linger")
async def linger(ctx: JobContext, name: str) -> None:
    """Keep a row, and take some time over it."""
    ctx.db.session.add(DisabledTool(tool=f"lingered-{name}"))
    await ctx.db.session.flush()
    await asyncio.sleep(0.1)


@job("probe.spend", retries=AT_ONCE)
async def spend(ctx: JobContext) -> None:
    """Spend some cents, and fail."""
    await ctx.spend(3)
    raise RuntimeError("it was spent in vain")


category = Category("probe", "For the tests.")
JOBS = [
    keep,
    fail,
    hold,
    stubborn,
    slow,
    single,
    one_each,
    note,
    follow,
    large_result,
    odd_result,
    leave,
    linger,
    spend,
    *partner.JOBS,
]
FOUND = plugin("probe", register_categories=[category], register_jobs=JOBS, register_events=[sold])
