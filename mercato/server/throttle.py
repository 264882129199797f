"""Throttle: how often something was tried, counted by all replicas together."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.tenancy.signing import digest

log = structlog.stdlib.get_logger(__name__)

_TIMEOUT_S = 1
_MOST_LOCAL = 10_000


class Throttle:
    """Counts in Redis; while Redis is away each process counts for itself. Names are hashed: they hold addresses."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._local: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def count(self, name: str, window_s: int) -> int:
        """Count one more of this name; return how many there were in the present window."""
        key = _key(name)
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._redis.pipeline(transaction=True) as pipe:
                pipe.incr(key)
                pipe.expire(key, window_s, nx=True)
                counted, _ = await pipe.execute()
            return int(counted)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("attempts are counted by this process alone: Redis is away", error=type(error).__name__)
            return self._count_here(key, window_s)

    async def look(self, name: str) -> int:
        """Return how many of this name there are in the present window."""
        key = _key(name)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return int(await self._redis.get(key) or 0)
        except (RedisError, OSError, TimeoutError):
            until, counted = self._local.get(key, (0.0, 0))
            return counted if until > time.monotonic() else 0

    async def forget(self, name: str) -> None:
        """Begin to count anew."""
        key = _key(name)
        self._local.pop(key, None)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._redis.delete(key)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("attempts are not forgotten: Redis is away", error=type(error).__name__)

    def _count_here(self, key: str, window_s: int) -> int:
        now = time.monotonic()
        until, counted = self._local.pop(key, (now + window_s, 0))
        if until <= now:
            until, counted = now + window_s, 0
        self._local[key] = (until, counted + 1)
        if len(self._local) > _MOST_LOCAL:
            self._local.popitem(last=False)
        return counted + 1


def _key(name: str) -> str:
    return f"mercato:throttle:{digest(name).hex()}"
