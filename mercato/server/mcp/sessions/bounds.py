"""Bounds: how long and how much, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Bounds:
    """Times in seconds, and the most there may be of each thing."""

    idle_s: int = 1_800
    """A session that nobody has used for so long is gone."""
    question_s: float = 300
    """How long a client may take to answer a question, unless the question says otherwise."""
    cached_s: float = 30
    touched_every_s: float = 60
    idlest_s: float = 300
    """A session that was used since is never ended to make room for another."""
    stream_after_s: float = 5
    """A call that takes longer is answered as a stream, so that nobody in between takes it for dead."""
    keepalive_s: float = 15
    looked_at_every_s: float = 30
    beat_s: float = 5
    lease_s: float = 15
    register_after_s: float = 0.1
    cancelled_early_s: float = 2
    """How long a cancellation that found no call waits for one."""
    gathered_s: float = 0.1
    """Changes that come within this are told of once."""
    kept_s: int = 600
    """How long a stream can be resumed once its last message is in it."""
    reading_s: float = 30
    """How long a client that has a lot to catch up with may take to read a part of it."""
    reconnect_s: float = 0.5
    redis_s: float = 2
    ending_s: float = 5
    """How long calls may go on once the server ends and their connections are closed."""
    retry_ms: int = 1_000
    most_sessions: int = 10_000
    """Of one tenant."""
    most_streams: int = 1_000
    """Of one tenant, in one process."""
    most_calls: int = 64
    """In flight in one session, in one process."""
    most_subscriptions: int = 1_000
    most_cached: int = 10_000
    longest_handshake_bytes: int = 32 * 1024
    """What a client says of itself is kept for as long as its session."""
    longest_uri: int = 2_000
    """Of what is subscribed to."""
    most_handshake_values: int = 500
    most_entries: int = 1_000
    """Kept of one stream."""
    most_entries_of_sse: int = 50
    """Kept of a stream that nobody can come back to."""
    longest_shown_bytes: int = 256 * 1024
    """A longer entry is not shown to other replicas, which read it where it is kept: Redis cuts off who lags behind."""
    most_waiting: int = 1_000
    most_waiting_bytes: int = 1024 * 1024
    """Of one writer whose client does not read."""
