"""Names of keys and channels in Redis. The tag in braces keeps what belongs to one session in one slot of a cluster."""

from __future__ import annotations

import re
import secrets

SHARED = "mercato:sessions"
"""The channel of what all replicas must hear: sessions that ended or changed, replicas that are lost."""
REPLICAS = "mercato:{replicas}:seen"
STANDALONE = "g"
"""The stream of a session that belongs to no request."""

_SESSION = re.compile(r"[A-Za-z0-9_-]{43}")
_EVENT = re.compile(r"([0-9a-f]{16}|g)_([0-9]{1,15})")


def new_session_id() -> str:
    """Return 256 random bits."""
    return secrets.token_urlsafe(32)


def is_session_id(text: str) -> bool:
    """Whether it has the form of an id of ours."""
    return _SESSION.fullmatch(text) is not None


def new_stream() -> str:
    """Return the name of a new stream of a session."""
    return secrets.token_hex(8)


def event_of(text: str) -> tuple[str, int] | None:
    """Return the stream and the number that an event id names; None where it is none of ours."""
    found = _EVENT.fullmatch(text)
    return None if found is None else (found[1], int(found[2]))


def record_key(session_id: str) -> str:
    """Return the key of a session's record."""
    return f"mercato:s:{{{session_id}}}"


def stream_key(session_id: str, stream: str) -> str:
    """Return the key of one stream of a session."""
    return f"mercato:s:{{{session_id}}}:st:{stream}"


def part_key(session_id: str, part: str) -> str:
    """Return the key of another part of a session: `calls`, `waits`, `replies`, `streams`, `ended`."""
    return f"mercato:s:{{{session_id}}}:{part}"


def cancelled_key(session_id: str, request: bytes) -> str:
    """Return the key of a cancellation that came before its call was known."""
    return f"mercato:s:{{{session_id}}}:cancelled:{request.decode()}"


def session_channel(session_id: str) -> str:
    """Return the channel of a session's open streams."""
    return f"mercato:s:{{{session_id}}}:live"


def replica_key(replica: str) -> str:
    """Return the key of a replica's lease."""
    return f"mercato:{{replicas}}:{replica}"


def replica_channel(replica: str) -> str:
    """Return the channel on which one replica is told things."""
    return f"mercato:replica:{replica}"


def tenant_key(tenant_id: int) -> str:
    """Return the key of a tenant's sessions, ordered by their last use."""
    return f"mercato:sessions:{tenant_id}"
