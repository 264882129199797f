"""Frames: what an event stream of the modern era is made of, as the SDK writes it."""

from __future__ import annotations

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
)
PING = b": ping\r\n\r\n"
"""A comment, so that no proxy takes the connection for dead."""


def frame(message: bytes) -> bytes:
    """Return a message as an event."""
    return b"event: message\r\ndata: " + message + b"\r\n\r\n"
