"""A replica: its name, and the lease by which the others know that it lives."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

import structlog

from mercato.server.mcp.sessions import names
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.reader import Reader
from mercato.server.mcp.sessions.store import Away, Store
from mercato.server.script import Argument

log = structlog.stdlib.get_logger(__name__)


def new_replica() -> str:
    """Return a name that no other process has had."""
    return secrets.token_hex(8)


class Replica:
    """Renews the lease. Of several replicas that find another's lease run out, one tells all, once."""

    def __init__(self, name: str, store: Store, reader: Reader, bounds: Bounds) -> None:
        self.name = name
        self._store = store
        self._reader = reader
        self._bounds = bounds
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew it."""
        self._running = asyncio.create_task(self._run(), name="mercato-replica")

    async def stop(self) -> None:
        """Give the lease back, and say so: whoever waits for a call of this process need not wait for it to run out."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        with suppress(Away):
            async with self._store.answering() as redis, redis.pipeline(transaction=False) as pipe:
                pipe.delete(names.replica_key(self.name))
                pipe.zrem(names.REPLICAS, self.name)
                pipe.publish(names.SHARED, f"lost {self.name}")
                await pipe.execute()

    async def is_alive(self, name: str) -> bool:
        """Whether another replica holds its lease. Raises `Away`."""
        async with self._store.answering() as redis:
            return bool(await redis.exists(names.replica_key(name)))

    async def _run(self) -> None:
        keys = [names.replica_key(self.name), names.REPLICAS]
        given: list[Argument] = [self.name, int(self._bounds.lease_s * 1_000), names.SHARED]
        while True:
            with suppress(Away):  # the reader tells of an outage
                await self._store.run("beat", keys, given)
            await self._reader.probe()
            await asyncio.sleep(self._bounds.beat_s)
