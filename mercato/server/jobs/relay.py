"""Relay: rings the provider for rows that are due, as far as it has room: at once when told, and by a sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import structlog

from mercato.server.jobs.deployment import PREFIX
from mercato.server.jobs.provider import Handle, Provider
from mercato.tenancy import ledger, ledger_choosing, ledger_work
from mercato.tenancy.system_pool import SystemPool

log = structlog.stdlib.get_logger(__name__)

SWEEP_S = 1.0
"""What nobody told of (a retry that is due, a word that was lost) is found within this time."""
_AWAY_S = 1.0
_ALONE_AT_ONCE = 4


class Relay:
    """Keeps a provider busy with the rows of the jobs that this process knows."""

    def __init__(
        self,
        pool: SystemPool,
        provider: Provider,
        names: Sequence[str],
        limits: Mapping[str, ledger_choosing.Limit],
        handle: Handle,
        cancelled: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._provider = provider
        self._names = list(names)
        self._own = [name for name in names if name.startswith(PREFIX)]
        self._limits = list(limits.values())
        self._handle = handle
        self._cancelled = cancelled
        self._is_away = False
        self._alone: set[asyncio.Task[None]] = set()
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
            asyncio.create_task(self._sweep(), name="mercato-relay-sweep"),
        ]

    async def stop(self) -> None:
        """Ring no more."""
        tasks = [*self._tasks, *self._alone]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.terminate()

    async def ring(self) -> int:
        """Ring for what is due, as far as there is room; return how many. Raises what either side raises."""
        most = self._provider.room()
        if most < 1 or not self._names:
            return 0
        names = [name for name in self._names if name not in self._own] if self._is_away else self._names
        ids = await ledger_choosing.ring(self._pool, most, names, self._limits)
        if ids:
            try:
                await self._provider.ring(ids)
            except OSError:
                self._is_away = True
                raise
            self._is_away = False
        return len(ids)

    async def run_alone(self) -> None:
        """Run the deployment's own jobs here while the provider's Redis is away, or all its slots are taken.

        Some of them tell of that.
        """
        free = _ALONE_AT_ONCE - len(self._alone)
        if free > 0 and self._own and (self._is_away or self._provider.room() < 1):
            for job_id in await ledger_choosing.ring(self._pool, free, self._own, self._limits):
                task = asyncio.ensure_future(self._handle(job_id))
                self._alone.add(task)
                task.add_done_callback(self._alone.discard)

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

    async def _sweep(self) -> None:
        """Do every second what need not be done at once. Both sides may be away: the next second is another try."""
        while True:
            await asyncio.sleep(SWEEP_S)
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await self.run_alone()
                await ledger_choosing.put_off(self._pool, self._limits)
                if taken := await ledger_work.reap(self._pool):
                    log.warning("jobs of a worker that does not answer were taken back", runs=taken)
                    self.wake()
