"""The provider of tests: everything that is due is run here, one after another, when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mercato.server.jobs.provider import Handle

_MOST = 100


class InlineProvider:
    """Keeps what it was rung for until `run` is called: there is no time in it, and nothing beside it."""

    def __init__(self) -> None:
        self._handle: Handle | None = None
        self._rung: list[int] = []

    def room(self) -> int:
        """Return how many more ids it wants now."""
        return _MOST - len(self._rung)

    async def ring(self, ids: Sequence[int]) -> None:
        """Take ids."""
        self._rung.extend(ids)

    async def start(self, handle: Handle, has_room: Callable[[], None]) -> None:
        """Know who handles."""
        self._handle = handle

    async def run(self) -> int:
        """Handle what it was rung for; return how many those were."""
        rung, self._rung = self._rung, []
        for job_id in rung:
            if self._handle is not None:
                await self._handle(job_id)
        return len(rung)

    async def drain(self, patience_s: float) -> None:
        """There is nothing to wait for."""
        self._rung.clear()

    async def stop(self) -> None:
        """End."""
        self._rung.clear()
