"""The wire: requests of both protocol eras as bytes, and what a good answer is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

MODERN: Final = "2026-07-28"
HANDSHAKE: Final = "2025-11-25"
FIRST_ID = 100_000_000
"""Ids have nine digits, so that every request of a run is as long as the first."""

Era = Literal["2026-07-28", "2025-11-25"]
_CLIENT = {"name": "benchmark", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}


class RowFailed(Exception):
    """A server answered what it should not have: its row cannot be compared with any other."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One HTTP answer; `body` is without chunks, `head` with its status line, `wire_bytes` how long it all was."""

    status: int
    head: bytes
    body: bytes
    wire_bytes: int = 0

    @property
    def is_stream(self) -> bool:
        """Whether it is an event stream instead of JSON."""
        return b"text/event-stream" in self.head

    def header(self, name: str) -> str | None:
        """Return a header."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return None

    def message(self) -> dict[str, Any]:
        """Return the JSON-RPC message, out of its event if it is in one. Raises `RowFailed`."""
        text = self.body.decode()
        if self.is_stream:
            text = next((line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip()), "")
        try:
            message: dict[str, Any] = json.loads(text)
        except ValueError:
            raise RowFailed(f"HTTP {self.status}, and no JSON: {text[:300]!r}") from None
        return message


@dataclass(frozen=True, slots=True)
class Request:
    """A request over HTTP/1.1, cut where its id stands."""

    before_id: bytes
    after_id: bytes

    def render(self, request_id: int) -> bytes:
        """Return the bytes to send."""
        return self.before_id + str(request_id).encode() + self.after_id


def rpc_request(
    port: int, method: str, params: dict[str, Any], era: Era, *, key: str | None = None, session: str | None = None
) -> Request:
    """Return a request of one era, with everything that its headers must repeat."""
    headers = _headers(port)
    if method != "initialize":
        headers["mcp-protocol-version"] = era
    if era == MODERN:
        params = {**params, "_meta": _META}
        headers["mcp-method"] = method
        if "name" in params:
            headers["mcp-name"] = params["name"]
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    if session is not None:
        headers["mcp-session-id"] = session
    body = json.dumps({"jsonrpc": "2.0", "id": FIRST_ID, "method": method, "params": params}, separators=(",", ":"))
    return _http(headers, body)


def initialize_request(port: int, key: str | None = None) -> Request:
    """Return the beginning of a session of the handshake era."""
    params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT}
    return rpc_request(port, "initialize", params, HANDSHAKE, key=key)


def initialized_notification(port: int, session: str, key: str | None = None) -> Request:
    """Return what ends the handshake. A notification has no id: the number rides along where it means nothing."""
    headers = _headers(port) | {"mcp-protocol-version": HANDSHAKE, "mcp-session-id": session}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    params = {"_meta": {"benchmark": FIRST_ID}}
    return _http(headers, json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized", "params": params}))


def listen_request(port: int, *, key: str | None = None) -> Request:
    """Return what opens a stream of the modern era."""
    return rpc_request(port, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, MODERN, key=key)


def _headers(port: int) -> dict[str, str]:
    return {
        "host": f"127.0.0.1:{port}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }


def _http(headers: dict[str, str], body: str) -> Request:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST /mcp HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
    before, _, after = body.partition(str(FIRST_ID))
    return Request((head + before).encode(), after.encode())


def check_answer(answered: Answered, request_id: int) -> dict[str, Any]:
    """Return the result in an answer. Raises `RowFailed` for any that is not a good one."""
    if answered.status != 200:
        raise RowFailed(f"HTTP {answered.status}: {answered.body[:300]!r}")
    message = answered.message()
    result = message.get("result")
    if message.get("id") != request_id or not isinstance(result, dict):
        raise RowFailed(f"no result: {json.dumps(message)[:300]}")
    if result.get("isError"):
        raise RowFailed(f"the tool failed: {json.dumps(result)[:300]}")
    return result
