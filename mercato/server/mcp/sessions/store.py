"""The store: every step in Redis, bounded in time; where Redis does not answer, one exception says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.script import Argument, Script

_SCRIPTS = Path(__file__).parent
_SPARED_S = 1.0
_MOST_AT_ONCE = 50
"""Each command under way holds a connection."""


class Away(Exception):
    """Redis does not answer at the moment."""


class Store:
    """Runs scripts and commands."""

    def __init__(self, redis: Redis, bounds: Bounds) -> None:
        self.redis = redis
        self._bounds = bounds
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._away_until = 0.0
        self._scripts: dict[str, Script] = {path.stem: Script(redis, path) for path in _SCRIPTS.glob("*.lua")}

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run one of the scripts beside this file. Raises `Away`."""
        async with self.answering():
            return await self._scripts[name](keys, arguments)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[Redis]:
        """Use Redis within the time that it has. Raises `Away`: at once where it has just let somebody wait in vain."""
        if time.monotonic() < self._away_until:
            raise Away("it did not answer a moment ago")
        async with self._room:
            try:
                async with asyncio.timeout(self._bounds.redis_s) as limit:
                    yield self.redis
            except (RedisError, OSError, TimeoutError) as error:
                if limit.expired():
                    self._away_until = time.monotonic() + _SPARED_S
                raise Away(str(error)) from error
