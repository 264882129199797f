"""Connected clients as the soak has them: how a person lets one in, and how it lives on lost answers."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from benchmarks.wire import Answered, RowFailed
from mercato.tenancy.codes import challenge_of
from tests.server.browser import Browser, forms_of

LOST, LINE_CUT = 0.1, 0.3
"""The share of answers that are lost, and of those the share whose line is cut before they come."""
MOST_LOST_IN_A_ROW = 3
RETRY_S = (1.0, 30.0)
STRAYS_PER_S = 20
_CUT_WITHIN_S, _PATIENCE_S = 0.02, 30
_REDIRECT = "http://127.0.0.1:9123/callback"


@dataclass(slots=True)
class Connection:
    """One client and what it holds. `signed_out` says why its person would have to sign in again."""

    client_id: str
    refresh_token: str
    first_access_token: str
    access_token: str
    signed_out: str | None = None


@dataclass(slots=True)
class Tally:
    """What happened. `over_restart` are losses before the restart that were mended after it."""

    refreshes: int = 0
    dropped: int = 0
    cut: int = 0
    mended: int = 0
    over_restart: int = 0
    differed: int = 0
    unanswered: int = 0
    strays: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has signed in, and the consent form as it stands in a page of theirs."""

    browser: Browser
    origin: str
    fields: list[tuple[str, str]]

    async def allow(self, asked: dict[str, str]) -> str:
        """Send the form for a client; return the code that it gets."""
        form = str(httpx.QueryParams([*self.fields, ("decision", "allow")]))
        headers = {"content-type": "application/x-www-form-urlencoded", "origin": self.origin}
        answer = await self.browser.http.post(f"/authorize?{urlencode(asked)}", content=form, headers=headers)
        if "code" not in (given := parse_qs(urlsplit(answer.headers.get("location", "")).query)):
            raise RowFailed(f"a client was not let in: HTTP {answer.status_code}: {answer.text[:300]}")
        return str(given["code"][0])


@asynccontextmanager
async def signed_in(port: int, email: str) -> AsyncIterator[Person]:
    """Sign somebody in, and read the consent page once: its form is the same for every client."""
    url = f"http://127.0.0.1:{port}"
    async with Browser(url) as browser:
        await browser.sign_in(email)
        asked = _request(await register(port, "First"), f"{url}/mcp", "")
        page = await browser.get(f"/authorize?{urlencode(asked)}")
        forms = [one for one in forms_of(page) if one.method == "post"]
        form = next((one for one in forms if urlsplit(one.action).path == "/authorize"), None)
        if form is None:
            raise RowFailed(f"{email} sees no consent page, but HTTP {page.status_code} at {page.url.path}")
        yield Person(browser, url, form.fields)


async def connect(port: int, person: Person, resource: str, number: int) -> Connection:
    """Register a client, let it in, and fetch its tokens."""
    client_id, verifier = await register(port, f"Soak {number}"), f"{number:043}"
    code = await person.allow(_request(client_id, resource, verifier))
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    answered = await _post(port, "/token", {**form, "client_id": client_id, "redirect_uri": _REDIRECT})
    if answered.status != 200:
        raise RowFailed(f"a code was not exchanged: HTTP {answered.status}: {answered.body[:300]!r}")
    tokens = answered.message()
    return Connection(client_id, tokens["refresh_token"], tokens["access_token"], tokens["access_token"])


async def register(port: int, name: str) -> str:
    """Register a public client; return its id."""
    metadata = {"client_name": name, "redirect_uris": [_REDIRECT], "token_endpoint_auth_method": "none"}
    answered = await _post(port, "/register", json.dumps(metadata))
    if answered.status != 201:
        raise RowFailed(f"a client could not register: HTTP {answered.status}: {answered.body[:300]!r}")
    return str(answered.message()["client_id"])


async def _post(port: int, path: str, content: dict[str, str] | str) -> Answered:
    """Send a form or JSON on a connection of its own. Raises `OSError` where no whole answer comes back."""
    kind = "application/json" if isinstance(content, str) else "application/x-www-form-urlencoded"
    body = (content if isinstance(content, str) else urlencode(content)).encode()
    asked = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: {kind}\r\nconnection: close\r\n"
    async with asyncio.timeout(_PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{asked}content-length: {len(body)}\r\n\r\n".encode() + body)
            data = await reader.read()
        finally:
            writer.close()
    head, found, answer = data.partition(b"\r\n\r\n")
    answered = Answered(int(head[9:12]) if found else 0, head, answer)
    if answered.header("content-length") != str(len(answer)):
        raise ConnectionResetError("the line was cut")
    return answered


def _request(client_id: str, resource: str, verifier: str) -> dict[str, str]:
    return {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": _REDIRECT,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "state": "soak",
        "resource": resource,
    }


class Life:
    """How clients live until the `end`. The driver sets it, counts its `restarts`, and may have every answer lost."""

    def __init__(self, port: int, every_s: float, seed: int) -> None:
        self.tally = Tally()
        self.restarts = 0
        self.losing_all = False
        self.end = float("inf")
        self._port = port
        self._every_s = every_s
        self._random = random.Random(seed)

    async def live(self, connection: Connection) -> None:
        """Refresh every few seconds."""
        await self._sleep(self._random.uniform(0, self._every_s))
        while time.monotonic() < self.end and connection.signed_out is None:
            await self._refresh(connection)
            await self._sleep(self._every_s * self._random.uniform(0.5, 1.5))

    async def stray(self) -> None:
        """Register clients that nobody lets in, as some clients do at each of their starts."""
        while time.monotonic() < self.end:
            with suppress(OSError, RowFailed):  # the server is being restarted
                await register(self._port, "Stray")
                self.tally.strays += 1
            await self._sleep(1 / STRAYS_PER_S)

    async def _refresh(self, connection: Connection) -> None:
        """Refresh, with the same token until an answer is not lost; all that come must be the same."""
        began, restarts, losses, seen = time.monotonic(), self.restarts, 0, ""
        while True:
            lost = losses < MOST_LOST_IN_A_ROW and (self.losing_all or self._random.random() < LOST)
            cut = lost and self._random.random() < LINE_CUT
            answered = await self._ask(connection, self._random.uniform(0, _CUT_WITHIN_S) if cut else None)
            if answered is not None and answered.status in {400, 401}:
                since = f"{time.monotonic() - began:.0f} s after it was first asked for, with {losses} answers lost"
                connection.signed_out = f"{answered.body.decode(errors='replace')} {since}"
                return
            answer = answered.message() if answered is not None and answered.status == 200 else {}
            following = str(answer.get("refresh_token", ""))
            self.tally.differed += bool(seen and following and following != seen)
            seen = seen or following
            if lost:
                losses += 1
                self.tally.cut += cut
                self.tally.dropped += not cut
                await self._sleep(self._random.uniform(*RETRY_S))
            elif following:
                break
            elif time.monotonic() > self.end + _PATIENCE_S:
                connection.signed_out = "the server did not answer any more"
                return
            else:
                await asyncio.sleep(self._random.uniform(1, 3))  # nobody is there
        self.tally.refreshes += 1
        self.tally.mended += losses > 0
        self.tally.over_restart += losses > 0 and self.restarts > restarts
        connection.refresh_token, connection.access_token = following, answer["access_token"]

    async def _ask(self, connection: Connection, cut_after_s: float | None) -> Answered | None:
        """Send one refresh; None where nothing came back."""
        form = {"grant_type": "refresh_token", "refresh_token": connection.refresh_token}
        began = time.perf_counter()
        try:
            async with asyncio.timeout(cut_after_s):
                answered = await _post(self._port, "/token", {**form, "client_id": connection.client_id})
        except OSError:  # which a timeout is too
            self.tally.unanswered += cut_after_s is None
            return None
        self.tally.latencies_ms.append((time.perf_counter() - began) * 1000)
        self.tally.statuses[answered.status] += 1
        return answered

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        await asyncio.sleep(max(0.0, min(seconds, self.end - time.monotonic())))
