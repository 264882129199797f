"""Relay: rings the provider for rows that are due, as far as it has room: at once when told, and by a sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import structlog

from mercato.server.jobs.provider import Provider
from mercato.tenancy import ledger, ledger_choosing, ledger_work
from mercato.tenancy.system_pool import SystemPool

log = structlog.stdlib.get_logger(__name__)

SWEEP_S = 1.0
"""What nobody told of (a retry that is due, a word that was lost) is found within this time."""
_AWAY_S = 1.0


class Relay:
    """Keeps a provider busy with the rows of the jobs that this process knows."""

    def __init__(
        self,
        pool: SystemPool,
        provider: Provider,
        names: Sequence[str],
        limits: Mapping[str, ledger_choosing.Limit],
        cancelled: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._provider = provider
        self._names = list(names)
        self._limits = list(limits.values())
        self._cancelled = cancelled
        self._due = asyncio.Event()
        self._listening: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_ringing(self) -> bool:
        """Whether it was started, and none of its parts has ended."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def wake(self) -> None:
        """Look now."""
        self._due.set()

    def start(self) -> None:
        """Begin to ring, to listen, and to take back what other workers have lost."""
        self._tasks = [
            asyncio.create_task(self._run(), name="mercato-relay"),
            asyncio.create_task(self._listen(), name="mercato-relay-listen"),
            asyncio.create_task(self._reap(), name="mercato-relay-reap"),
        ]

    async def stop(self) -> None:
        """Ring no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.terminate()

    async def ring(self) -> int:
        """Ring for what is due, as far as there is room; return how many. Raises what either side raises."""
        most = self._provider.room()
        if most < 1 or not self._names:
            return 0
        ids = await ledger_choosing.ring(self._pool, most, self._names, self._limits)
        if ids:
            await self._provider.ring(ids)
        return len(ids)

    async def _run(self) -> None:
        while True:
            self._due.clear()
            try:
                while await self.ring():
                    pass
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("jobs wait for the database or for Redis", error=type(error).__name__)
                await asyncio.sleep(_AWAY_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._due.wait()

    async def _listen(self) -> None:
        """Be told of new rows. While the connection is away, the sweep finds them."""
        lost = asyncio.Event()
        while True:
            lost.clear()
            try:
                self._listening = await self._pool.listen(ledger.CHANNEL, self._hear, lost.set)
                self.wake()  # what was stored meanwhile
                await lost.wait()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("nobody tells of new jobs: they are found by the sweep", error=type(error).__name__)
            await asyncio.sleep(_AWAY_S)

    def _hear(self, word: str) -> None:
        if word == ledger.CANCEL:
            self._cancelled()
        else:
            self.wake()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                if taken := await ledger_work.reap(self._pool):
                    log.warning("jobs of a worker that does not answer were taken back", runs=taken)
                    self.wake()
