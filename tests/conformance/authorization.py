"""The suite's view of the authorization server. It shows an address and waits for somebody to sign in: that is us."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from processes import CommandFailed, process
from subject import Subject

from tests.server.browser import Browser, forms_of

_SHOWN = re.compile(r"(http://\S+/authorize\?\S+)\s*")
_LONGEST_RUN_S = 120


async def output_while_signing_in(program: Sequence[str | Path], subject: Subject, folder: Path) -> str:
    """Run the suite with a client and a person of its own; return what it wrote. Raises `CommandFailed`."""
    port, password = _free_port(), secrets.token_urlsafe()
    await subject.command("user", "password", subject.owner, given=f"{password}\n")
    client_id = await _client(subject, f"http://127.0.0.1:{port}/callback")
    given = ["--url", subject.issuer, "--client-id", client_id, "--resource", subject.url, "-p", str(port)]
    log = folder / "errors.log"
    written: list[str] = []
    async with process([*program, *given, "-o", folder], log=log) as running:
        assert running.stdout is not None
        try:
            async with asyncio.timeout(_LONGEST_RUN_S):
                async for line in running.stdout:
                    written.append(line.decode())
                    if shown := _SHOWN.fullmatch(written[-1]):
                        await _let_in(subject, shown[1], password)
                ended_with = await running.wait()
        except TimeoutError:
            raise CommandFailed(f"the authorization run did not end in {_LONGEST_RUN_S} s; see {log}") from None
    if ended_with not in (0, 1):
        raise CommandFailed(f"the authorization run ended with {ended_with}; see {log}")
    return "".join(written)


def _free_port() -> int:
    """Return a port for the client's callback: the suite wants to be told one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _client(subject: Subject, redirect_uri: str) -> str:
    made = await subject.command("client", "create", "Suite", "--public", "--redirect-uri", redirect_uri, "--json")
    return str(json.loads(made)["client_id"])


async def _let_in(subject: Subject, address: str, password: str) -> None:
    """Go where a person goes: to the sign-in page, to the consent page, and back to the client with the answer."""
    async with Browser(subject.issuer) as browser, httpx.AsyncClient(timeout=20) as client:
        sign_in = await _page_with(browser.get(address), "/sign-in")
        consent = await _page_with(browser.sign_in(subject.owner, password, page=sign_in), "/authorize")
        answer = await browser.send(consent, "/authorize", decision="allow")
        if not answer.is_redirect:
            raise CommandFailed(f"Allow led nowhere: HTTP {answer.status_code} at {answer.url.path}")
        await client.get(answer.headers["location"])


async def _page_with(arriving: Awaitable[httpx.Response], form: str) -> httpx.Response:
    """Return the page that somebody arrives at. Raises `CommandFailed` where it is not the one with this form."""
    page = await arriving
    if form not in {urlsplit(one.action).path for one in forms_of(page)}:
        raise CommandFailed(f"there is no form for {form}, but HTTP {page.status_code} at {page.url.path}")
    return page
