"""Background: tasks that nobody waits for, kept from being collected, and ended with the process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from mercato.server.mcp.sessions.store import Away

log = structlog.stdlib.get_logger(__name__)

_STUCK_S = 5
"""What is cancelled may put off its end, to write an answer; the process does not wait for it for ever."""


class Background:
    """Runs tasks. What they raise is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin to do something."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def stop(self, within_s: float = 0) -> None:
        """Wait a while for what is being done, then end it."""
        if self._tasks and within_s:
            await asyncio.wait(set(self._tasks), timeout=within_s)
        remaining = set(self._tasks)
        for task in remaining:
            task.cancel()
        if remaining:
            _, stuck = await asyncio.wait(remaining, timeout=_STUCK_S)
            if stuck:
                log.error("work of sessions did not end", tasks=len(stuck))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Away):
            log.warning("Redis is away: sessions are not kept up", error=str(error))
        elif error is not None:
            log.error("work of a session failed", exc_info=error)
