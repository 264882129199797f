"""The outside world in tests: HTTP answers that the test has given, and a failure for any other request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx


class UnexpectedRequest(AssertionError):
    """The code under test asked the outside world something that the test did not provide."""


@dataclass
class HttpRouter(httpx.AsyncBaseTransport):
    """Answers requests by method and URL, in the order the answers were given; the last one of a URL stays."""

    requests: list[httpx.Request] = field(default_factory=list)
    _answers: dict[tuple[str, str], list[httpx.Response]] = field(default_factory=dict)

    def on(self, method: str, url: str, *, status: int = 200, json: Any = None, text: str | None = None) -> None:
        """Give an answer to the next request of this method and URL (without its query)."""
        response = httpx.Response(status, json=json) if text is None else httpx.Response(status, text=text)
        self._answers.setdefault((method.upper(), url), []).append(response)

    def reset(self) -> None:
        """Forget every answer and request."""
        self.requests.clear()
        self._answers.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request. Raises `UnexpectedRequest`."""
        self.requests.append(request)
        answers = self._answers.get((request.method, str(request.url.copy_with(query=None))))
        if not answers:
            raise UnexpectedRequest(f"no answer was given for {request.method} {request.url}")
        return answers.pop(0) if len(answers) > 1 else answers[0]
