"""Messages of ours as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from mcp_types import ErrorData


def encode(message: Mapping[str, Any] | str | int) -> bytes:
    """Return a message on one line. What the fast encoder refuses, such as very long numbers, the slow one takes."""
    try:
        return orjson.dumps(message)
    except TypeError:
        return json.dumps(message, separators=(",", ":")).encode()


def encode_id(request_id: str | int) -> bytes:
    """Return the id of a request as JSON: 1 and "1" are two."""
    return encode(request_id)


def result(request_id: str | int, value: Mapping[str, Any]) -> bytes:
    """Return the answer to a request."""
    return encode({"jsonrpc": "2.0", "id": request_id, "result": value})


def failure(request_id: str | int | None, error: ErrorData) -> bytes:
    """Return the answer to a request that failed."""
    return encode(
        {"jsonrpc": "2.0", "id": request_id, "error": error.model_dump(by_alias=True, mode="json", exclude_none=True)}
    )


def request(request_id: str, method: str, params: Mapping[str, Any] | None) -> bytes:
    """Return a request of ours."""
    return encode({"jsonrpc": "2.0", "id": request_id, "method": method, **_given(params)})


def notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """Return a notification."""
    return encode({"jsonrpc": "2.0", "method": method, **_given(params)})


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if params is None else {"params": dict(params)}
