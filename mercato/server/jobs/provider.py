"""The seam between the ledger and what runs its rows: `arq` in production, `inline` in tests, or another.

A provider knows ids only. It may lose what it was rung for, hand it over twice, or hand it over at two places: the
ledger gives a row to one of them. What it must not do is keep quiet about room that it has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

Handle = Callable[[int], Awaitable[None]]
"""Runs the row of this id, if it may still be run. Never raises."""


class Provider(Protocol):
    """Runs what it is rung for, here, as far as it has room."""

    def room(self) -> int:
        """Return how many more ids it wants now."""

    async def ring(self, ids: Sequence[int]) -> None:
        """Take ids, to be handled soon. Raises `OSError` where it cannot: they are rung again later."""

    async def start(self, handle: Handle, has_room: Callable[[], None]) -> None:
        """Begin to handle, and call `has_room` whenever there is room again."""

    async def drain(self, patience_s: float) -> None:
        """Begin nothing more, and wait so long for what runs."""

    async def stop(self) -> None:
        """Cancel what still runs, and end."""
