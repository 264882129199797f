"""Plain requests: well-formed, of one piece, and asking for nothing that only a stream or the SDK can give.

A request is plain or it is not; nothing here refuses anything. What is not plain goes the SDK's way, which says what
is wrong with it, if anything is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mcp_types as mcp
import orjson
from mcp_types.methods import validate_client_request
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mercato.server.mcp.messages import DEEPEST, LONGEST_ID_BYTES, LONGEST_NAME, MOST_VALUES

LONGEST_BODY_BYTES = 256 * 1024
_ACCEPTED = frozenset(
    {
        b"application/json, text/event-stream",
        b"text/event-stream, application/json",
        b"application/json,text/event-stream",
    }
)
_TYPES = frozenset({b"application/json", b"application/json; charset=utf-8"})
_HANDSHAKE_OR_NONE = frozenset([None, *(version.encode() for version in HANDSHAKE_PROTOCOL_VERSIONS)])
_MODERN = frozenset(version.encode() for version in MODERN_PROTOCOL_VERSIONS)
_EMITTING = frozenset(
    {
        "progressToken",
        "io.modelcontextprotocol/logLevel",
        "mercato/idempotency-key",
    }
)
"""What in `_meta` makes a call more than plain."""
_CALLING = frozenset({"name", "arguments", "_meta"})
_ONLY_META = frozenset({"_meta"})
_LISTENING = frozenset({"_meta", "notifications"})
_TRACE = ("traceparent", "tracestate", "baggage")
"""What in `_meta` differs from one request to the next, and says only which trace it belongs to."""
_EVERY_TRACE = frozenset(_TRACE)
_VERSION = "io.modelcontextprotocol/protocolVersion"
_UNKNOWN: Any = object()
_MOST_KEPT = 1_000
_LARGEST = 2.0**63
_LONGEST_ENVELOPE_BYTES = 4_096
"""Of those that are kept; a longer one is not plain."""


Head = dict[bytes, bytes]
"""The headers of a request that may be plain, by their names in small letters. Values are as they came."""

_TELLING = frozenset({b"origin", b"x-api-key", b"last-event-id", b"expect"})
"""Headers that change what a request means; others, such as a proxy's, do not."""
_MCP = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"})
_USUAL = _MCP | {
    *(b"host", b"authorization", b"content-type", b"content-length", b"accept", b"accept-encoding", b"accept-language"),
    *(b"user-agent", b"connection", b"x-request-id", b"sec-fetch-mode", b"traceparent", b"tracestate"),
    *(b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"),
}
"""Headers that need no closer look."""


def plain_head(headers: list[tuple[bytes, bytes]]) -> Head | None:
    """Return the headers if none of them is there twice or says something that is not plain."""
    head = dict(headers)
    if len(head) != len(headers) or not (head.keys() <= _USUAL or _are_harmless(head)):
        return None
    if head.get(b"content-type") not in _TYPES or head.get(b"accept") not in _ACCEPTED:
        return None
    if not head.get(b"content-length", b"").isdigit():
        return None
    return head if head.get(b"authorization", b"")[:7] == b"Bearer " and b"host" in head else None


def _are_harmless(head: Head) -> bool:
    return _TELLING.isdisjoint(head) and all(name in _MCP for name in head if name.startswith(b"mcp-"))


@dataclass(slots=True)
class Plain:
    """A plain request. `arguments` belongs to calls; `can_ask` is what a modern client says of itself."""

    id: bytes
    method: str
    is_modern: bool
    version: str
    name: str = ""
    arguments: dict[str, Any] | None = None
    can_ask: bool = False
    client_name: str | None = None
    meta: dict[str, Any] | None = None


_Client = tuple[bool, str]
"""Whether a client can put a question to its user, and what it calls itself."""


class PlainReader:
    """Reads bodies. Keeps which envelopes the SDK has found to be right: a client sends the same with each request."""

    def __init__(self) -> None:
        self._envelopes: dict[bytes, _Client | None] = {}

    def read(self, head: Head, body: bytes) -> Plain | None:
        """Return the request, or None where it is not plain."""
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if type(message) is not dict or message.pop("jsonrpc", None) != "2.0":
            return None
        request_id, method, params = message.pop("id", None), message.pop("method", None), message.pop("params", {})
        if message or (type(request_id) is not str and type(request_id) is not int) or type(params) is not dict:
            return None
        if body.count(b"[") + body.count(b"{") > DEEPEST:
            return None
        if len(body) > MOST_VALUES and body.count(b",") > MOST_VALUES:
            return None
        version = head.get(b"mcp-protocol-version", b"")
        is_modern = version in _MODERN
        plain = Plain(orjson.dumps(request_id), method, is_modern, version.decode("latin-1"))
        if len(plain.id) > LONGEST_ID_BYTES:
            return None
        reads = _READERS.get(method) if type(method) is str else None
        if reads is None or not reads(plain, head, params):
            return None
        meta = params.get("_meta", {})
        if type(meta) is not dict or not _EMITTING.isdisjoint(meta):
            return None
        return plain if (self._modern if is_modern else _handshake)(plain, head, meta) else None

    def _modern(self, plain: Plain, head: Head, meta: dict[str, Any]) -> bool:
        if b"mcp-session-id" in head or head.get(b"mcp-method") != plain.method.encode():
            return False
        if meta.get(_VERSION) != plain.version:
            return False
        if not _EVERY_TRACE.isdisjoint(meta):
            plain.meta = meta
            untraced = _untraced(meta)
            if untraced is None:
                return False
            meta = untraced
        client = self._client(orjson.dumps(meta), meta)
        if client is None:
            return False
        plain.can_ask, plain.client_name = client
        return True

    def _client(self, key: bytes, meta: dict[str, Any]) -> _Client | None:
        known: _Client | None = self._envelopes.get(key, _UNKNOWN)
        if known is not _UNKNOWN:
            return known
        if len(key) > _LONGEST_ENVELOPE_BYTES:
            return None
        if len(self._envelopes) >= _MOST_KEPT:
            self._envelopes.clear()
        client = self._envelopes[key] = _client_of(meta)
        return client


def _handshake(plain: Plain, head: Head, meta: dict[str, Any]) -> bool:
    if b"mcp-session-id" not in head or b"mcp-method" in head or b"mcp-name" in head:
        return False
    if head.get(b"mcp-protocol-version") not in _HANDSHAKE_OR_NONE:
        return False
    plain.meta = meta or None
    return _untraced(meta) is not None


def _untraced(meta: dict[str, Any]) -> dict[str, Any] | None:
    """Return an envelope without what says the trace; None where that has not even the type of one."""
    if any(type(meta.get(name, "")) is not str for name in _TRACE):
        return None
    return {name: value for name, value in meta.items() if name not in _TRACE}


def _is_call(plain: Plain, head: Head, params: dict[str, Any]) -> bool:
    name, arguments = params.get("name"), params.get("arguments", {})
    if not params.keys() <= _CALLING or type(name) is not str or type(arguments) is not dict:
        return False
    if not name.isascii() or len(name) > LONGEST_NAME:
        return False
    if plain.is_modern and head.get(b"mcp-name") != name.encode():
        return False
    for value in arguments.values():  # orjson rounds a whole number beyond 64 bits, and the SDK's parser does not
        if type(value) is float and not -_LARGEST < value < _LARGEST:
            return False
    plain.name, plain.arguments = name, arguments
    return True


def _is_bare(plain: Plain, head: Head, params: dict[str, Any]) -> bool:
    return b"mcp-name" not in head and params.keys() <= _ONLY_META


def _is_listening(plain: Plain, head: Head, params: dict[str, Any]) -> bool:
    plain.arguments = params
    return plain.is_modern and b"mcp-name" not in head and params.keys() <= _LISTENING


def _is_modern_only(plain: Plain, head: Head, params: dict[str, Any]) -> bool:
    return plain.is_modern and _is_bare(plain, head, params)


def _is_handshake_only(plain: Plain, head: Head, params: dict[str, Any]) -> bool:
    return not plain.is_modern and _is_bare(plain, head, params)


_READERS: dict[str, Callable[[Plain, Head, dict[str, Any]], bool]] = {
    "tools/call": _is_call,
    "tools/list": _is_bare,
    "server/discover": _is_modern_only,
    "ping": _is_handshake_only,
    "subscriptions/listen": _is_listening,
}


def _client_of(meta: dict[str, Any]) -> _Client | None:
    """Return what an envelope says of its client, if the SDK would take it as it is."""
    try:
        validate_client_request("tools/list", str(meta[_VERSION]), {"_meta": meta})
        said = mcp.InitializeRequestParams.model_validate(
            {
                "protocolVersion": meta[_VERSION],
                "capabilities": meta["io.modelcontextprotocol/clientCapabilities"],
                "clientInfo": meta["io.modelcontextprotocol/clientInfo"],
            },
            by_name=False,
        )
        return said.capabilities.elicitation is not None, said.client_info.name
    except (ValidationError, KeyError):
        return None
