"""Changes: what one process tells the others, so that a toggle shows everywhere at the next call."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.server.script import Script
from mercato.tenancy.signing import digest

log = structlog.stdlib.get_logger(__name__)

CHANNEL = "mercato:changes"
_RETRY_S = 0.5
_PUBLISH_TIMEOUT_S = 2
_STAMP_KEPT_S = 24 * 60 * 60

Kind = Literal["catalog", "access", "resource", "task"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something of one tenant changed: what it may see (`access`), a resource, or a task. Tenant 0 means all.

    `uri` is the resource's, or the id of the task.
    """

    kind: Kind
    tenant_id: int
    uri: str | None = None


Listener = Callable[[Change], None]


def stamp_key(tenant_id: int, uri: str | None) -> str:
    """Return where Redis keeps when a resource of a tenant changed last, or, without a URI, its lists."""
    what = "lists" if uri is None else f"uri:{digest(uri).hex()}"
    return f"mercato:changed:{{{tenant_id}}}:{what}"


class ChangeBus:
    """Changes over Redis publish/subscribe. Nothing is replayed: after a gap the listeners are told that all changed.

    Listeners are called on the event loop, must not block and must not raise.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._origin = secrets.token_hex(8)
        self._listeners: dict[object, Listener] = {}
        self._reader: asyncio.Task[None] | None = None
        self._tell = Script(redis, Path(__file__).with_name("changed.lua"))
        self.connected = False

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every change from now on; return what ends that."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    async def publish(self, change: Change) -> None:
        """Tell this process at once, the others through Redis; without Redis they learn when their caches expire.

        Redis also keeps when it was, for sessions that nobody can tell now.
        """
        self._deliver(change)
        message = orjson.dumps({"origin": self._origin, **asdict(change)})
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                await self._tell([stamp_key(change.tenant_id, change.uri)], [CHANNEL, message, _STAMP_KEPT_S])
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("change not published", kind=change.kind, error=str(error))

    def start(self) -> None:
        """Begin to listen to the other processes."""
        self._reader = asyncio.create_task(self._read(), name="mercato-changes")

    async def stop(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    async def _read(self) -> None:
        warned = False
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    async for message in pubsub.listen():
                        if message["type"] == "subscribe":
                            self.connected = True
                            self._deliver(Change("access", 0))  # whatever happened while nobody listened
                        elif message["type"] == "message" and (change := self._change_of(message["data"])) is not None:
                            self._deliver(change)
            except (RedisError, OSError) as error:
                if self.connected or not warned:  # once for each time that it goes away
                    log.warning("Redis is away: changes of other processes show late", error=str(error))
                self.connected, warned = False, True
                await asyncio.sleep(_RETRY_S)

    def _deliver(self, change: Change) -> None:
        for listener in list(self._listeners.values()):
            listener(change)

    def _change_of(self, data: bytes) -> Change | None:
        """Return the change in a message; None for our own, delivered already, and for what is no change at all."""
        try:
            message = orjson.loads(data)
            origin = message.pop("origin")
            return None if origin == self._origin else Change(**message)
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("a change could not be read")
            return None
