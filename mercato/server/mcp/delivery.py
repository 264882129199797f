"""Delivery: whether the answer of a call reached an open connection, told once by whoever writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.types import Scope

TRANSPORT = "mercato.transport"
"""The extension of an HTTP scope under which our server shows the connection itself."""
AT_ONCE = "mercato.answer"
"""The one under which it takes a whole answer in one piece: see `AnsweringConnection.answer_at_once`."""

BODY = "mercato.body"
"""The one under which it gives a body that has come wholly: see `AnsweringConnection.body_at_once`."""


class Delivery:
    """The fate of one answer. The wire form tells it; a write that must not run twice listens.

    `settled(True)`: its last byte was handed to an open connection. `settled(False)`: its caller was gone by then.
    `abandoned()`: the caller is gone while the call still runs; `settled` follows.
    """

    __slots__ = ("is_abandoned", "on_abandoned", "on_settled")

    def __init__(self) -> None:
        self.is_abandoned = False
        self.on_abandoned: Callable[[], None] | None = None
        self.on_settled: Callable[[bool], None] | None = None

    def abandoned(self) -> None:
        """Say that nobody waits for the answer any more."""
        if not self.is_abandoned:
            self.is_abandoned = True
            if self.on_abandoned is not None:
                self.on_abandoned()

    def settled(self, delivered: bool) -> None:
        """Say what became of the answer; only the first time counts."""
        if self.on_settled is not None:
            listener, self.on_settled = self.on_settled, None
            listener(delivered)


def is_open(scope: Scope) -> bool:
    """Whether the connection of a request still stands, as far as this side knows. Ask before the last byte is sent."""
    transport: Any = scope.get("extensions", {}).get(TRANSPORT)
    return transport is None or not transport.is_closing()
