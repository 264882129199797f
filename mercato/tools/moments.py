"""Moments: one timer for all that may last, as nearly everything is over before it would fire."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

MOMENT_S = 0.05


class Lasting(Protocol):
    """What wants to know that it has lasted a moment."""

    def has_lasted(self) -> None:
        """It has: called once, on the event loop. Must not raise."""


class Moments:
    """Tells what was begun a moment ago and has not ended. A timer for each costs ten times as much as this."""

    def __init__(self, moment_s: float = MOMENT_S) -> None:
        self._moment_s = moment_s
        self._fresh: dict[Lasting, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, thing: Lasting) -> asyncio.Task[Any] | None:
        """Begin to look at something; return the task that runs."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self._fresh[thing] = time.monotonic()
        if self._timer is None:
            self._timer = loop.call_later(self._moment_s, self._look)
        return asyncio.current_task(loop)

    def end(self, thing: Lasting) -> float | None:
        """Look at it no more; return when it began, or None where it has been told that it lasted."""
        return self._fresh.pop(thing, None)

    def _look(self) -> None:
        self._timer, old = None, time.monotonic() - self._moment_s
        for thing in [thing for thing, began in self._fresh.items() if began <= old]:
            del self._fresh[thing]
            thing.has_lasted()
        if self._fresh and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._moment_s, self._look)
