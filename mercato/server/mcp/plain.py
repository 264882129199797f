"""Plain requests: well-formed, of one piece, and asking for nothing that only a stream or the SDK can give.

A request is plain or it is not; nothing here refuses anything. What is not plain goes the SDK's way, which says what
is wrong with it, if anything is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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
_NONE: dict[str, Any] = {}
_BEARER = b"Bearer "
_MOST_KEPT = 1_000
_LARGEST, _LONG_NUMBER = 2.0**63, re.compile(rb"\d{19}")
_DEPTH_OF_A_PART = 4
"""At most so many objects are around the parts of a message: the message, its parameters, an envelope."""
_LONGEST_ENVELOPE_BYTES = 4_096
"""Of those that are kept; a longer one is not plain."""
_TELLING = frozenset({b"origin", b"x-api-key", b"last-event-id", b"expect"})
"""Headers that change what a request means; others, such as a proxy's, do not."""
_MCP = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"})
_USUAL = _MCP | {
    *(b"host", b"authorization", b"content-type", b"content-length", b"accept", b"accept-encoding", b"accept-language"),
    *(b"user-agent", b"connection", b"x-request-id", b"sec-fetch-mode", b"traceparent", b"tracestate"),
    *(b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"),
}
"""Headers that need no closer look."""


class PlainHead:
    """What the headers of a plain request say, in the form in which its body is held against them.

    `method` and `name` belong to the modern era, `session_id` to that of the handshake; where they do not belong, or
    were not sent, they are None.
    """

    __slots__ = (
        "content_length",
        "credential",
        "host",
        "is_modern",
        "method",
        "name",
        "request_id",
        "session_id",
        "version",
    )

    def __init__(self, head: Mapping[bytes, bytes], *, is_modern: bool) -> None:
        self.is_modern = is_modern
        self.credential = head[b"authorization"][len(_BEARER) :]
        self.host = head[b"host"]
        self.content_length = int(head[b"content-length"])
        self.request_id = head.get(b"x-request-id")
        self.version = head.get(b"mcp-protocol-version", b"").decode("latin-1")
        self.method = _text(head.get(b"mcp-method"))
        self.name = _text(head.get(b"mcp-name"))
        self.session_id = _text(head.get(b"mcp-session-id"))


def plain_head(headers: Sequence[tuple[bytes, bytes]]) -> PlainHead | None:
    """Return what the headers say, if none of them is there twice or says something that is not plain."""
    head = dict(headers)
    if len(head) != len(headers) or not (head.keys() <= _USUAL or _are_harmless(head)):
        return None
    if head.get(b"content-type") not in _TYPES or head.get(b"accept") not in _ACCEPTED:
        return None
    if not head.get(b"content-length", b"").isdigit():
        return None
    if not head.get(b"authorization", b"").startswith(_BEARER) or b"host" not in head:
        return None
    if head.get(b"mcp-protocol-version") in _MODERN:
        return PlainHead(head, is_modern=True) if b"mcp-session-id" not in head else None
    return PlainHead(head, is_modern=False) if _is_of_session(head) else None


def _is_of_session(head: Mapping[bytes, bytes]) -> bool:
    if b"mcp-session-id" not in head or b"mcp-method" in head or b"mcp-name" in head:
        return False
    return head.get(b"mcp-protocol-version") in _HANDSHAKE_OR_NONE


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _are_harmless(head: Mapping[bytes, bytes]) -> bool:
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


_Envelope = tuple[str, bool, str]
"""The version that a client speaks, whether it can put a question to its user, and what it calls itself."""


class PlainReader:
    """Reads bodies. Keeps which envelopes the SDK has found to be right: a client sends the same with each request."""

    def __init__(self) -> None:
        self._envelopes: dict[bytes, _Envelope | None] = {}

    def read(self, head: PlainHead, body: bytes) -> Plain | None:
        """Return the request, or None where it is not plain."""
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if type(message) is not dict or message.get("jsonrpc") != "2.0":
            return None
        request_id, method, params = message.get("id"), message.get("method"), message.get("params", _NONE)
        if len(message) != (3 if params is _NONE else 4) or type(params) is not dict:
            return None
        if (type(request_id) is not str and type(request_id) is not int) or type(method) is not str:
            return None
        if len(body) > MOST_VALUES and body.count(b",") > MOST_VALUES:
            return None
        plain = Plain(orjson.dumps(request_id), method, head.is_modern, head.version)
        reads = _READERS.get(method)
        if reads is None or len(plain.id) > LONGEST_ID_BYTES or not reads(plain, head, params, body):
            return None
        meta = params.get("_meta", _NONE)
        if type(meta) is not dict:
            return None
        return plain if (self._modern if head.is_modern else _handshake)(plain, head, meta) else None

    def _modern(self, plain: Plain, head: PlainHead, meta: dict[str, Any]) -> bool:
        if head.method != plain.method:
            return False
        key = orjson.dumps(meta)
        envelope = self._envelopes.get(key, _UNKNOWN)
        if envelope is _UNKNOWN:
            envelope = self._looked_at(plain, key, meta)
        if envelope is None or envelope[0] != head.version:
            return False
        _, plain.can_ask, plain.client_name = envelope
        return True

    def _looked_at(self, plain: Plain, key: bytes, meta: dict[str, Any]) -> _Envelope | None:
        """Return what an envelope says that is not kept as it is: one that is new, or that names its trace."""
        if meta.get(_VERSION) != plain.version or not _EMITTING.isdisjoint(meta):
            return None
        if not _EVERY_TRACE.isdisjoint(meta):
            plain.meta = meta
            untraced = _untraced(meta)
            if untraced is None:
                return None
            meta, key = untraced, orjson.dumps(untraced)
            known: _Envelope | None = self._envelopes.get(key, _UNKNOWN)
            if known is not _UNKNOWN:
                return known
        if len(key) > _LONGEST_ENVELOPE_BYTES or not _is_shallow(key):
            return None
        if len(self._envelopes) >= _MOST_KEPT:
            self._envelopes.clear()
        envelope = self._envelopes[key] = _envelope_of(meta)
        return envelope


def _handshake(plain: Plain, head: PlainHead, meta: dict[str, Any]) -> bool:
    if not meta:
        return True
    plain.meta = meta
    return _EMITTING.isdisjoint(meta) and _untraced(meta) is not None and _is_shallow(orjson.dumps(meta))


def _is_shallow(text: bytes) -> bool:
    """Whether a part of a message cannot make it too deep, at a glance."""
    return text.count(b"[") + text.count(b"{") < DEEPEST - _DEPTH_OF_A_PART


def _untraced(meta: dict[str, Any]) -> dict[str, Any] | None:
    """Return an envelope without what says the trace; None where that has not even the type of one."""
    if any(type(meta.get(name, "")) is not str for name in _TRACE):
        return None
    return {name: value for name, value in meta.items() if name not in _TRACE}


def _is_call(plain: Plain, head: PlainHead, params: dict[str, Any], body: bytes) -> bool:
    name, arguments = params.get("name"), params.get("arguments", _NONE)
    if not params.keys() <= _CALLING or type(name) is not str or type(arguments) is not dict:
        return False
    if not name.isascii() or len(name) > LONGEST_NAME or (head.name != name and head.is_modern):
        return False
    for value in arguments.values():
        kind = type(value)
        if kind is float:  # orjson rounds a whole number beyond 64 bits, and the SDK's parser does not
            if not -_LARGEST < value < _LARGEST:
                return False
        elif (kind is dict or kind is list) and not (_is_shallow(body) and _LONG_NUMBER.search(body) is None):
            return False
    plain.name, plain.arguments = name, arguments
    return True


def _is_bare(plain: Plain, head: PlainHead, params: dict[str, Any], body: bytes) -> bool:
    return head.name is None and params.keys() <= _ONLY_META


def _is_listening(plain: Plain, head: PlainHead, params: dict[str, Any], body: bytes) -> bool:
    plain.arguments = params
    return plain.is_modern and head.name is None and params.keys() <= _LISTENING and _is_shallow(body)


def _is_modern_only(plain: Plain, head: PlainHead, params: dict[str, Any], body: bytes) -> bool:
    return plain.is_modern and _is_bare(plain, head, params, body)


def _is_handshake_only(plain: Plain, head: PlainHead, params: dict[str, Any], body: bytes) -> bool:
    return not plain.is_modern and _is_bare(plain, head, params, body)


_READERS: dict[str, Callable[[Plain, PlainHead, dict[str, Any], bytes], bool]] = {
    "tools/call": _is_call,
    "tools/list": _is_bare,
    "server/discover": _is_modern_only,
    "ping": _is_handshake_only,
    "subscriptions/listen": _is_listening,
}


def _envelope_of(meta: dict[str, Any]) -> _Envelope | None:
    """Return what an envelope says of its client, if the SDK would take it as it is."""
    try:
        version = str(meta[_VERSION])
        validate_client_request("tools/list", version, {"_meta": meta})
        said = mcp.InitializeRequestParams.model_validate(
            {
                "protocolVersion": meta[_VERSION],
                "capabilities": meta["io.modelcontextprotocol/clientCapabilities"],
                "clientInfo": meta["io.modelcontextprotocol/clientInfo"],
            },
            by_name=False,
        )
        return version, said.capabilities.elicitation is not None, said.client_info.name
    except (ValidationError, KeyError):
        return None
