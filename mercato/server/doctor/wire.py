"""Wire: requests as an MCP client makes them, within its budget, never following a redirect by itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urljoin

import httpx

from mercato.server.doctor.address import origin_of

BUDGET_S = 10.0
"""What Claude waits for an answer."""
SLOW_S = 5.0
_MOST_BYTES = 4 * 1024 * 1024

Failure = Literal["timeout", "certificate", "connection", "answer"]


@dataclass(frozen=True)
class Answer:
    """What came back; `failure` where nothing did."""

    url: str
    status: int = 0
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    text: str = ""
    seconds: float = 0.0
    failure: Failure | None = None

    @property
    def location(self) -> str:
        """Where it redirects to, as a whole address; empty where it does not."""
        given: str = self.headers.get("location", "")
        if not given or self.status not in {301, 302, 303, 307, 308}:
            return ""
        try:
            there: str = urljoin(self.url, given)
        except ValueError:
            return given
        return there

    @property
    def is_html(self) -> bool:
        """Whether it is a web page."""
        kind = self.headers.get("content-type", "").lower()
        return "html" in kind or self.text.lstrip()[:15].lower().startswith(("<!doctype", "<html"))

    @property
    def document(self) -> dict[str, Any] | None:
        """Its JSON object; None where it has none."""
        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The JSON-RPC messages in it, whether JSON or a stream of events."""
        if "text/event-stream" not in self.headers.get("content-type", ""):
            return [self.document] if self.document is not None else []
        return _events(self.text)

    @property
    def error(self) -> str:
        """The OAuth error in its body; empty where there is none."""
        value = (self.document or {}).get("error")
        return value if isinstance(value, str) else ""


class Wire:
    """Sends requests one at a time. `clock` measures how long they take; tests give one of their own."""

    def __init__(
        self, http: httpx.AsyncClient, *, clock: Callable[[], float] = time.monotonic, budget_s: float = BUDGET_S
    ) -> None:
        self._http = http
        self._clock = clock
        self._budget_s = budget_s

    async def get(self, url: str) -> Answer:
        """Fetch a document or a page."""
        return await self._send(url, "GET", {"accept": "application/json, text/html;q=0.9"})

    async def post_form(self, url: str, fields: Mapping[str, str]) -> Answer:
        """Send a form, as to a token endpoint."""
        return await self._send(url, "POST", {"accept": "application/json"}, data=dict(fields))

    async def post_json(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        """Send JSON."""
        given = {"accept": "application/json, text/event-stream", **(headers or {})}
        return await self._send(url, "POST", given, json=dict(body))

    async def delete(self, url: str, headers: Mapping[str, str]) -> Answer:
        """End something there."""
        return await self._send(url, "DELETE", headers)

    async def _send(self, url: str, method: str, headers: Mapping[str, str], **body: Any) -> Answer:
        if not origin_of(url):
            return Answer(url, failure="answer")
        began = self._clock()
        try:
            async with asyncio.timeout(self._budget_s):
                request = self._http.build_request(method, url, headers=dict(headers), timeout=self._budget_s, **body)
                response = await self._http.send(request, stream=True, follow_redirects=False)
                try:
                    text = await _read(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TimeoutException):
            return Answer(url, failure="timeout", seconds=self._budget_s)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return Answer(url, failure=_failure_of(error))
        seconds = self._clock() - began
        if seconds > self._budget_s:
            return Answer(url, failure="timeout", seconds=seconds)
        return Answer(url, response.status_code, response.headers, text, seconds)


async def _read(response: httpx.Response) -> str:
    """Read a body, but a stream of events only until its answer: servers may keep it open after that."""
    is_stream = "text/event-stream" in response.headers.get("content-type", "")
    read = bytearray()
    async for chunk in response.aiter_bytes():
        read += chunk
        if len(read) > _MOST_BYTES:
            break
        if is_stream and any("id" in message and "method" not in message for message in _events(_decoded(read))):
            break
    return _decoded(read)


def _decoded(body: bytes | bytearray) -> str:
    return bytes(body).decode("utf-8", "replace")


def _events(text: str) -> list[dict[str, Any]]:
    """Return the messages of those events that have come wholly."""
    found = []
    for event in text.replace("\r\n", "\n").split("\n\n")[:-1]:
        data = [line.removeprefix("data:").removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        try:
            value = json.loads("\n".join(data))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _failure_of(error: Exception) -> Failure:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "certificate"
    return "connection" if isinstance(error, httpx.NetworkError | httpx.ProxyError) else "answer"
