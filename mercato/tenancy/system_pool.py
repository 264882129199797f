"""Connections of the system role for statements that are made all the time, and one that listens.

They do not go by SQLAlchemy, whose session costs many times what such a statement does. Each statement is a
transaction of its own; nothing of a session is changed, so nothing is put back between two users of a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson


class _Unchanged(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's own
        """Do nothing: it is as it was."""


class SystemPool:
    """A small pool, opened with its first statement. Raises what asyncpg raises."""

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        self._connect = connect
        self._size = size
        self._pool: Any = None
        self._opening = asyncio.Lock()

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        """Run one statement and return its rows."""
        rows: list[Any] = await (await self._opened()).fetch(sql, *values)
        return rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Open a transaction on a connection of its own."""
        async with (await self._opened()).acquire() as connection, connection.transaction():
            yield connection

    async def listen(self, channel: str, told: Callable[[str], None], lost: Callable[[], None]) -> Any:
        """Return a connection that calls `told` for every notification, and `lost` when it has ended."""
        connection = await asyncpg.connect(**self._connect)
        await connection.add_listener(channel, lambda _connection, _pid, _channel, payload: told(payload))
        connection.add_termination_listener(lambda _: lost())
        return connection

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def _opened(self) -> Any:
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        **self._connect, min_size=1, max_size=self._size, connection_class=_Unchanged, init=_read_json
                    )
        return self._pool


async def _read_json(connection: Any) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=orjson.loads)
