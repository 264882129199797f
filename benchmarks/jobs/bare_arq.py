"""Bare arq at its defaults: ten jobs at once, a look at its queue twice a second, pickle. It stores in Redis only."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import ConnectionPool

from benchmarks.jobs.measure import Begun, measure, tell

begun = Begun()


async def nothing(ctx: dict[str, Any], number: int) -> None:
    """Tell that it began."""
    begun.note(number)


class BareArq:
    """arq's queue."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def put(self, numbers: Sequence[int]) -> None:
        """Ask for these, one after the other: arq knows no transaction."""
        for number in numbers:
            await self._redis.enqueue_job("nothing", number)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work."""
        worker = Worker([nothing], redis_pool=self._redis, handle_signals=False)
        task = asyncio.create_task(worker.main())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def main() -> None:
    """Measure at the address that is given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    options = parser.parse_args()
    redis = ArqRedis(pool_or_conn=ConnectionPool.from_url(options.redis))
    tell(await measure(BareArq(redis), begun, options.jobs))
    await redis.aclose(close_connection_pool=True)


if __name__ == "__main__":
    uvloop.run(main())
