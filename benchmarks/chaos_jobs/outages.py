"""Outages: each engine is killed once, and Redis forgets everything once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
from redis.asyncio import Redis
from sqlalchemy.exc import DBAPIError

from mercato.server.engines import Engines
from mercato.server.engines.files import read_state
from mercato.server.engines.postgres import Postgres
from mercato.server.engines.valkey import Valkey

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, DBAPIError)
"""What is raised to those who meet one of PostgreSQL."""
_LONGEST_S = 60


class Outages:
    """Makes them, in the order in which they are in `all`, and keeps those that were made."""

    def __init__(self, data_dir: Path, engines: Engines) -> None:
        self.made: list[str] = []
        self.all = (self.restart_redis, self.flush_redis, self.restart_postgres)
        self._data_dir = data_dir
        self._engines = engines

    async def restart_redis(self) -> None:
        """Kill it; it comes back by itself."""
        await self._kill(Valkey.name, signal.SIGKILL)
        self.made.append("Redis restarted")

    async def flush_redis(self) -> None:
        """Let it forget everything."""
        async with Redis.from_url(self._engines.redis_url) as redis:
            await redis.flushall()
        self.made.append("Redis flushed")

    async def restart_postgres(self) -> None:
        """Have it end in its immediate mode: every connection is cut, and what was committed is recovered."""
        await self._kill(Postgres.name, signal.SIGQUIT)
        self.made.append("PostgreSQL restarted")

    async def _kill(self, engine: str, number: signal.Signals) -> None:
        before = self._pid(engine)
        assert before, f"{engine} does not run"
        os.kill(before, number)
        async with asyncio.timeout(_LONGEST_S):
            while True:
                await asyncio.sleep(0.05)
                if self._pid(engine) not in (0, before):
                    return

    def _pid(self, engine: str) -> int:
        """Return the process of an engine that serves, or 0."""
        known = (read_state(self._data_dir) or {}).get("engines", {}).get(engine, {})
        return int(known["pid"]) if known.get("state") == "ready" else 0
