"""The reader: the one connection on which a replica hears what others publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.store import Away

log = structlog.stdlib.get_logger(__name__)

Listener = Callable[[bytes], None]


@dataclass(slots=True)
class _Channel:
    listener: Listener
    users: int = 0
    awaited: int = 0
    """Subscriptions that were sent and not confirmed yet: until then messages may be missed."""
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class Reader:
    """Subscribes to channels. Nothing is repeated: after a gap, `resynced` is called once all subscriptions stand.

    The connection is our own, and not the client library's subscriber, which connects again without a word.
    """

    def __init__(self, redis: Redis, bounds: Bounds, resynced: Callable[[], None]) -> None:
        self._redis = redis
        self._bounds = bounds
        self._resynced = resynced
        self._channels: dict[bytes, _Channel] = {}
        self._connection: Any = None
        self._gap = True
        self._heard_at = time.monotonic()
        self._running: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether what is published is heard at the moment."""
        return not self._gap

    def keep(self, channel: str, listener: Listener) -> None:
        """Subscribe for good, with the first connection and with every later one."""
        self._channels[channel.encode()] = _Channel(listener, users=1)

    def start(self) -> None:
        """Begin to listen."""
        self._running = asyncio.create_task(self._run(), name="mercato-sessions")

    async def stop(self) -> None:
        """Stop listening."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def join(self, channel: str, listener: Listener) -> None:
        """Subscribe; when this returns, nothing that is published from now on is missed. Raises `Away`.

        The same channel has the same listener. Whether this succeeds or not, `leave` must follow.
        """
        entry = self._channels.setdefault(channel.encode(), _Channel(listener))
        entry.users += 1
        try:
            async with asyncio.timeout(self._bounds.redis_s):
                if entry.users == 1:
                    await self._send("SUBSCRIBE", [channel.encode()])
                while entry.awaited or self._gap:
                    standing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    entry.waiters.append(standing)
                    await standing
        except (TimeoutError, RedisError, OSError) as error:
            raise Away("the subscription does not stand") from error

    async def leave(self, channel: str) -> None:
        """Give back what `join` was called for."""
        entry = self._channels[channel.encode()]
        entry.users -= 1
        if entry.users == 0:
            self._drop(channel.encode(), entry)
            with suppress(RedisError, OSError):
                await self._send("UNSUBSCRIBE", [channel.encode()])

    def _drop(self, channel: bytes, entry: _Channel) -> None:
        """Forget a channel that nobody uses; not while confirmations are due, which must not count for a later one."""
        if entry.users == 0 and not entry.awaited:
            self._channels.pop(channel, None)

    async def probe(self) -> None:
        """Make the connection say something; where it has been silent for too long, begin a new one."""
        connection = self._connection
        if connection is None:
            return
        with suppress(RedisError, OSError):
            if time.monotonic() - self._heard_at > self._bounds.lease_s:
                await connection.disconnect(nowait=True)
            else:
                await connection.send_command("PING")

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                if not self._gap:
                    log.warning("Redis is away: sessions hear nothing of other replicas", error=str(error))
            was_heard, self._connection, self._gap = not self._gap, None, True
            await asyncio.sleep(0 if was_heard else self._bounds.reconnect_s)

    async def _listen(self) -> None:
        pool = self._redis.connection_pool
        connection = pool.connection_class(**{**pool.connection_kwargs, "protocol": 2, "socket_timeout": None})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has none
            self._connection, self._heard_at = connection, time.monotonic()
            for channel, entry in list(self._channels.items()):
                entry.awaited = 0
                self._drop(channel, entry)
            await self._send("SUBSCRIBE", list(self._channels))
            while True:
                self._take(await connection.read_response(disable_decoding=True))
        finally:
            await connection.disconnect(nowait=True)

    async def _send(self, command: str, channels: list[bytes]) -> None:
        """Send a command, unless there is no connection: the next one begins with all subscriptions."""
        if self._connection is None or not channels:
            return
        if command == "SUBSCRIBE":
            for channel in channels:
                self._channels[channel].awaited += 1
        await self._connection.send_command(command, *channels)

    def _take(self, answer: list[Any]) -> None:
        self._heard_at = time.monotonic()
        kind, channel = answer[0], answer[1]
        entry = self._channels.get(channel)
        if kind == b"message" and entry is not None:
            self._hand_over(entry, answer[2])
        elif kind == b"subscribe" and entry is not None:
            entry.awaited = max(0, entry.awaited - 1)
            self._drop(channel, entry)
            self._settle(entry)

    def _settle(self, entry: _Channel) -> None:
        if self._gap and not any(one.awaited for one in self._channels.values()):
            self._gap = False
            self._resynced()
            for one in self._channels.values():
                self._wake(one)
        elif not entry.awaited and not self._gap:
            self._wake(entry)

    def _wake(self, entry: _Channel) -> None:
        for waiter in entry.waiters:
            if not waiter.done():
                waiter.set_result(None)
        entry.waiters.clear()

    def _hand_over(self, entry: _Channel, message: bytes) -> None:
        try:
            entry.listener(message)
        except Exception:  # the edge: whatever one message does, the next one is read
            log.error("a message of another replica could not be taken in", exc_info=True)
