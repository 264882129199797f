"""Outbox: answers that leave together, when everything that was ready has had its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outbox:
    """Lets answers leave in the next turn of the loop, all of them in one go.

    What was to be told in that turn before, such as the admission of a call, has left by then. To write an answer is
    the kernel's work for the most part: done for many in a row it costs each a good deal less.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def put(self, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        """Call `leave` in the next turn. It must not raise."""
        if not self._waiting:
            loop.call_soon(self._let_leave)
        self._waiting.append(leave)

    def _let_leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        for leave in waiting:
            leave()
