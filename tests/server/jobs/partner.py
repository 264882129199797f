"""An outside service that can be away, and the jobs that talk to it."""

from __future__ import annotations

import asyncio

import httpx

from mercato.plugins.jobs import Backoff, Permanent, Retry, job
from mercato.tools.context import JobContext
from mercato.tools.errors import LimitReached, NotConnected, ToolError

AT_ONCE = Backoff(attempts=5, base_s=0, jitter=0)


class Partner:
    """Answers, or raises; notes who called."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.calls: list[tuple[str, int]] = []
        self.held: asyncio.Event | None = None
        self.called = asyncio.Event()

    async def call(self, ctx: JobContext, number: int) -> None:
        self.calls.append((ctx.tenant.slug, number))
        failure = self.failure
        self.called.set()
        if self.held is not None:
            await self.held.wait()
        if failure is not None:
            raise failures[failure]()


def _status(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "https://partner.example")
    return httpx.HTTPStatusError(f"status {code}", request=request, response=httpx.Response(code, request=request))


failures = {
    "refused": lambda: httpx.ConnectError("refused"),
    "slow": lambda: httpx.ReadTimeout("no answer"),
    "cut": lambda: ConnectionResetError("cut"),
    "503": lambda: _status(503),
    "retryable": lambda: ToolError("The shop does not answer.", retryable=True),
    "404": lambda: _status(404),
    "mistake": lambda: KeyError("total"),
    "tool": lambda: ToolError("The shop says no."),
    "limit": lambda: LimitReached("read", whose="the tenant", most=1, window_s=60, retry_after_s=5),
    "permanent": lambda: Permanent("it cannot be"),
    "retry": lambda: Retry(0, "not yet"),
    "not connected": lambda: NotConnected("Connect it."),
}
OUTAGES = ("refused", "slow", "cut", "503", "retryable")
partner = Partner()


@job("probe.ask", integration="partner", retries=AT_ONCE)
async def ask(ctx: JobContext, number: int = 0) -> None:
    """Ask the partner."""
    await partner.call(ctx, number)


@job("probe.tell", requires=("partner",), retries=AT_ONCE)
async def tell(ctx: JobContext, number: int = 0) -> None:
    """Tell the partner something: another job, of the same integration."""
    await partner.call(ctx, number)


@job("probe.ask_elsewhere", integration="elsewhere", retries=AT_ONCE)
async def ask_elsewhere(ctx: JobContext, number: int = 0) -> None:
    """Ask another partner, who is always there."""


@job("probe.ask_slowly", integration="partner", timeout_s=0.02, retries=AT_ONCE)
async def ask_slowly(ctx: JobContext) -> None:
    """Take longer than it may by itself."""
    await asyncio.Event().wait()


JOBS = [ask, tell, ask_elsewhere, ask_slowly]
