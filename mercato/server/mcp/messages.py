"""JSON-RPC messages as they come in: read and checked here, so that no library's words answer a broken one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mcp_types as mcp
import orjson
from starlette.responses import Response

from mercato.tools.errors import LimitReached

DEEPEST = 64
MOST_PARTS, MOST_VALUES = 50_000, 20_000
"""Objects and lists in one message, and values: some megabytes of small ones would hold everybody up for seconds."""
LONGEST_ID_BYTES = 256
"""An id is kept for as long as its request runs, which may be for days, and sent with each event of a stream."""
LONGEST_NAME = 2_000
"""Of a tool, a prompt or a URI: what is not known is named in the answer."""
MALFORMED = "malformed"
"""What the log calls a body that holds no message."""
LIMIT_REACHED = -31_029
"""Ours: JSON-RPC and MCP keep -32768 to -32000 for themselves."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that has the right form. `id` is None for notifications and for answers of the client."""

    id: str | int | None
    method: str | None
    params: dict[str, Any]
    answer: dict[str, Any] = field(default_factory=dict)
    """The whole message, where it is an answer."""


class Malformed(ValueError):
    """What is no MCP message; knows its error code and HTTP status and, if it could be read, the request's id."""

    def __init__(self, code: int, text: str, request_id: Any = None, *, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.request_id = request_id
        self.status = status

    def body(self) -> bytes:
        """Return what is answered."""
        return error_body(self.code, str(self), self.request_id)

    def response(self) -> Response:
        """Return the HTTP answer."""
        response = error_response(self.status, self.code, str(self), self.request_id)
        if self.status == 405:
            response.headers["Allow"] = "GET, POST, DELETE, OPTIONS"
        return response


def read_message(body: bytes) -> Message:
    """Return the message in a body. Raises `Malformed`."""
    parts = body.count(b"[") + body.count(b"{")
    many = parts + body.count(b",") > MOST_VALUES
    if parts > MOST_PARTS:
        raise Malformed(mcp.INVALID_REQUEST, f"A message may have at most {MOST_PARTS:,} objects and lists.")
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed(mcp.PARSE_ERROR, "The body is not JSON.") from None
    if isinstance(raw, list):
        raise Malformed(mcp.INVALID_REQUEST, "Batches are not supported: send one message at a time.")
    if not isinstance(raw, dict):
        raise Malformed(mcp.INVALID_REQUEST, "A message must be a JSON object.")
    if parts > DEEPEST and _deeper_than(raw, DEEPEST):
        raise Malformed(mcp.INVALID_REQUEST, f"The message is nested more than {DEEPEST} levels deep.")
    if many and has_more_than(raw, MOST_VALUES):
        raise Malformed(mcp.INVALID_REQUEST, f"A message may have at most {MOST_VALUES:,} values.")
    return _checked(raw)


def refusal_of(body: bytes) -> tuple[int, bytes] | None:
    """Return the status and the body that answer what is no message; None for a message."""
    try:
        read_message(body)
    except Malformed as broken:
        return broken.status, broken.body()
    return None


def limit_body(request_id: bytes, reached: LimitReached) -> bytes:
    """Return the JSON-RPC error of a limit that was reached, for an answer with HTTP 429. The id is JSON already."""
    error = {"code": LIMIT_REACHED, "message": reached.text(), "data": reached.data()}
    return b'{"jsonrpc":"2.0","id":' + request_id + b',"error":' + orjson.dumps(error) + b"}"


def limit_response(request_id: str | int | None, reached: LimitReached) -> Response:
    """Return the answer of a limit that was reached."""
    headers = {"Retry-After": str(reached.retry_after_s)}
    body = limit_body(orjson.dumps(request_id), reached)
    return Response(body, status_code=429, media_type="application/json", headers=headers)


def error_response(status: int, code: int, text: str, request_id: Any = None) -> Response:
    """Return a JSON-RPC error over HTTP."""
    return Response(error_body(code, text, request_id), status_code=status, media_type="application/json")


def error_body(code: int, text: str, request_id: Any = None) -> bytes:
    """Return a JSON-RPC error."""
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}})


def _checked(raw: dict[str, Any]) -> Message:
    request_id = raw.get("id")
    if "id" in raw and (isinstance(request_id, bool) or not isinstance(request_id, str | int)):
        raise Malformed(mcp.INVALID_REQUEST, "`id` must be a text or a whole number.")
    if isinstance(request_id, str) and len(orjson.dumps(request_id)) > LONGEST_ID_BYTES:
        raise Malformed(mcp.INVALID_REQUEST, f"`id` may have at most {LONGEST_ID_BYTES} bytes.")
    if raw.get("jsonrpc") != "2.0":
        raise Malformed(mcp.INVALID_REQUEST, '`jsonrpc` must be "2.0".', request_id)
    if "method" not in raw and ("result" in raw or "error" in raw):
        return Message(None, None, {}, raw)
    method, params = raw.get("method"), raw.get("params")
    if not isinstance(method, str):
        raise Malformed(mcp.INVALID_REQUEST, "`method` must be a text.", request_id)
    if params is not None and not isinstance(params, dict):
        raise Malformed(mcp.INVALID_PARAMS, "`params` must be an object.", request_id)
    for name in ("name", "uri"):
        value = None if params is None else params.get(name)
        if isinstance(value, str) and len(value) > LONGEST_NAME:
            text = f"`{name}` may have at most {LONGEST_NAME:,} characters."
            raise Malformed(mcp.INVALID_PARAMS, text, request_id)
    return Message(request_id, method, params or {})


def has_more_than(value: Any, most: int) -> bool:
    """Whether an object or a list holds more values than that, at all its levels together."""
    total, containers = 0, [value]
    while containers and total <= most:
        container = containers.pop()
        total += len(container)
        if total <= most:
            inner = container.values() if isinstance(container, dict) else container
            containers.extend(one for one in inner if isinstance(one, dict | list))
    return total > most


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for node in layer
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return False
    return True
