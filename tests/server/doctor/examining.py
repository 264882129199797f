"""How tests run the doctor: against the fake, or any server that an HTTP client reaches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from mercato.server.doctor import Examination, Finding, Wire, examine, listening
from tests.server.doctor.fake import FakeServer


async def everywhere(host: str) -> list[str]:
    """Resolve every host to a public address."""
    return ["93.184.216.34"]


async def findings_of(
    url: str, http: httpx.AsyncClient, sign_in: Callable[[str], Awaitable[None]] | None, **options: Any
) -> list[Finding]:
    """Examine a server; `sign_in` opens an address as a person would, and follows it to the loopback listener."""
    clock = options.pop("clock", None)
    wire = Wire(http) if clock is None else Wire(http, clock=clock)
    async with listening() as listener:
        examination = Examination(url, wire, listener, sign_in, **options)
        return [finding async for finding in examine(examination)]


async def findings_about(server: FakeServer, *, url: str = "https://mcp.example/mcp", **options: Any) -> list[Finding]:
    """Examine the fake, signing in."""
    given = {"resolve": everywhere, "clock": server.clock, "wait_s": 5, **options}
    sign_in = given.pop("sign_in", server.sign_in)
    async with server.client() as http:
        return await findings_of(url, http, sign_in, **given)


def worse(findings: list[Finding]) -> list[str]:
    """Return what is not well, as lines."""
    return [f"{one.status} {one.step}: {one.message} -> {one.mend}" for one in findings if one.status != "ok"]
