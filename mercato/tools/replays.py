"""Replays: a write whose answer was lost is answered from what it did, and not done again.

What makes two calls the same is said here; the answers are kept by `mercato.server.replays`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.principal import Principal
from mercato.tools.errors import InvalidArguments, ToolError
from mercato.tools.outcome import Outcome

KEY = "mercato/idempotency-key"
LONGEST_KEY = 200
_EXAMPLE = {"_meta": {KEY: "3f6c1a58-order-6000-cancel"}}


class Delivery(Protocol):
    """The fate of an answer, told by whoever writes it: see `mercato.server.mcp.delivery`."""

    is_abandoned: bool
    on_abandoned: Callable[[], None] | None
    on_settled: Callable[[bool], None] | None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which call it is: digests of who calls what with which arguments, of the caller's key, of the request state.

    All three name the tenant and the principal, so that no two of those ever meet.
    """

    tenant_id: int
    principal: str
    tool: str
    digest: bytes
    key: bytes | None = None
    state: bytes | None = None


def fingerprint_of(
    principal: Principal,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    key: Any = None,
    state: str | None = None,
    as_task: bool = False,
) -> Fingerprint:
    """Return which call it is: one that is answered with a task is another than one that is answered.

    Raises `InvalidArguments` for a key that is none.
    """
    if key is not None and not (isinstance(key, str) and 1 <= len(key) <= LONGEST_KEY):
        raise InvalidArguments(
            f"`_meta[{KEY!r}]` must be a text of 1 to {LONGEST_KEY} characters.",
            field=KEY,
            allowed=(),
            example=_EXAMPLE,
        )
    who = f"{principal.kind}:{principal.credential_id}:{principal.grant_id}:{principal.user_id}"
    scope = [principal.tenant_id, who]
    return Fingerprint(
        principal.tenant_id,
        who,
        tool,
        _digest([*scope, "task" if as_task else "call", tool, arguments]),
        None if key is None else _digest([*scope, "key", key]),
        None if state is None else _digest([*scope, "state", state]),
    )


def _digest(said: Any) -> bytes:
    # The standard library's: it can say every number and text that a request can hold.
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).digest()


class KeyReused(ToolError):
    """The key was used for another call."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            f"The key in `_meta[{KEY!r}]` was used in the last 10 minutes for another tool or with other arguments; "
            "nothing was done.",
            field=KEY,
            next_step="Use a new key for each new call, and the same one only to repeat a call as it was.",
        )


class StillRunning(ToolError):
    """The first of several equal calls has not come to its end."""

    code = "still_running"

    def __init__(self) -> None:
        super().__init__(
            "The same call was made before and still runs; nothing was done by this one.",
            next_step="Call again in some seconds: you get the answer of the first.",
            retryable=True,
        )


class Repeated(Exception):  # no error: the call was made before, and its answer is there
    """Ends a call that was made before: `first` is its first answer."""

    def __init__(self, first: Outcome) -> None:
        super().__init__("the call was made before")
        self.first = first


class Attempt(Protocol):
    """One run of a write."""

    async def look(self) -> None:
        """Look for the first answer, before anything is done. Raises `Repeated`, `KeyReused` or `StillRunning`."""

    def guard(self, db: TenantDatabase) -> None:
        """Look once more when the transaction begins, and keep equal calls out of it. It then raises the same."""

    async def remember(self, db: TenantDatabase, outcome: Outcome) -> None:
        """Keep the answer, in the transaction of the write."""


class Replays(Protocol):
    """Knows the writes whose answers may have been lost."""

    def attempt(
        self, call: Fingerprint, delivery: Delivery | None, *, timeout_s: float
    ) -> AbstractAsyncContextManager[Attempt]:
        """Begin one run of a write that takes no longer than its time-out; at the end it is known what became of it."""
