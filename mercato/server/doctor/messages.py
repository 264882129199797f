"""Messages: the plain HTTP forms of a request in both eras of the protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mercato.server.doctor.wire import Answer, Wire

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"
_REQUEST_ID = 1


def _version() -> str:
    try:
        return version("mercato")
    except PackageNotFoundError:
        return "0"


CLIENT_NAME = "mercato connector doctor"
_CLIENT = {"name": CLIENT_NAME, "version": _version()}


@dataclass
class Line:
    """One era's way to an endpoint; `session` and `agreed`, a version, are what the server said at `initialize`."""

    wire: Wire
    url: str
    era: str
    token: str = field(default="", repr=False)
    session: str = ""
    agreed: str = HANDSHAKE

    async def hello(self) -> Answer:
        """Send the era's first request."""
        if self.era == MODERN:
            return await self.request("server/discover")
        params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT}
        answer = await self.request("initialize", params)
        self.session = answer.headers.get("mcp-session-id", "")
        self.agreed = str((result_of(answer) or {}).get("protocolVersion") or HANDSHAKE)
        return answer

    async def request(self, method: str, params: dict[str, Any] | None = None) -> Answer:
        """Send a request."""
        given = dict(params or {})
        if self.era == MODERN:
            given["_meta"] = _envelope()
        body = {"jsonrpc": "2.0", "id": _REQUEST_ID, "method": method, "params": given}
        return await self.wire.post_json(self.url, body, self._headers(method, given))

    async def notify(self, method: str) -> Answer:
        """Send a notification."""
        return await self.wire.post_json(self.url, {"jsonrpc": "2.0", "method": method}, self._headers(method, {}))

    async def end(self) -> None:
        """End the session, where there is one."""
        if self.session:
            await self.wire.delete(self.url, self._headers("", {}))

    def _headers(self, method: str, params: dict[str, Any]) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if self.era == MODERN:
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": method}
            return headers | ({"mcp-name": str(params["name"])} if "name" in params else {})
        if method != "initialize":
            headers["mcp-protocol-version"] = self.agreed
        return headers | ({"mcp-session-id": self.session} if self.session else {})


def result_of(answer: Answer) -> dict[str, Any] | None:
    """Return a request's result; None where it has none."""
    for message in answer.messages:
        if message.get("id") == _REQUEST_ID and isinstance(message.get("result"), dict):
            result: dict[str, Any] = message["result"]
            return result
    return None


def error_code_of(answer: Answer) -> int | None:
    """Return the code of a request's error; None where it has none."""
    for message in answer.messages:
        error = message.get("error")
        if isinstance(error, dict) and isinstance(error.get("code"), int):
            code: int = error["code"]
            return code
    return None


def _envelope() -> dict[str, Any]:
    return {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": _CLIENT,
    }
