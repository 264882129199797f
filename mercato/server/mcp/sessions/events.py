"""Server-sent events: the bytes of a stream."""

from __future__ import annotations

KEEPALIVE = b": keepalive\n\n"

_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


def stream_headers(session_id: str | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that is a stream."""
    return [*_HEADERS, *([(b"mcp-session-id", session_id.encode())] if session_id else [])]


def event(stream: str, number: int, data: bytes, retry_ms: int) -> bytes:
    """Return a message as an event that can be resumed after; one without data primes the client to do so."""
    if not data:
        return b"id: %s_%d\nretry: %d\ndata: \n\n" % (stream.encode(), number, retry_ms)
    return b"id: %s_%d\nevent: message\ndata: %s\n\n" % (stream.encode(), number, data)


def plain_event(data: bytes, kind: bytes = b"message") -> bytes:
    """Return an event without an id: nothing can be resumed after it."""
    return b"event: %s\ndata: %s\n\n" % (kind, data)


def retry(retry_ms: int) -> bytes:
    """Return what tells a client how soon it may come back."""
    return b"retry: %d\n\n" % retry_ms
