"""Calls: the requests that are in flight, known here at once and to the other replicas where it matters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import orjson

from mercato.server.mcp.sessions import encoding, names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.record import Session
from mercato.server.mcp.sessions.replica import Replica
from mercato.server.mcp.sessions.store import Store
from mercato.server.mcp.sessions.streams import Streams
from mercato.server.script import Argument

NO_STREAM = "-"
_LOST = {"code": -32603, "message": "The server that ran this was lost; whether it was done is not certain."}


class DuplicateId(ValueError):
    """A request of this id is in flight already; `elsewhere` by what was heard, which `verify` settles."""

    def __init__(self, *, elsewhere: bool = False) -> None:
        super().__init__()
        self.elsewhere = elsewhere


class TooManyCalls(ValueError):
    """The session has as many requests in flight as it may have."""


@dataclass(slots=True, eq=False)
class Running:
    """One request in flight here. `request` is its id as JSON: 1 and "1" are two."""

    session_id: str
    request: bytes
    cancel: Callable[[], None]
    began: float
    stream: str = NO_STREAM
    is_registered: bool = False
    is_duplicate: bool = False
    """Whether it was cancelled because another request of its id turned out to be in flight."""
    is_over: bool = False
    registering: asyncio.Lock = field(default_factory=asyncio.Lock)


class Calls:
    """Keeps the requests in flight.

    Most are over before anybody else could want to know of them: one is made known to all replicas when it emits, or
    once it has taken a moment. From then on it can be cancelled anywhere, its id is refused everywhere, and its stream
    is ended by somebody else should this process be lost.
    """

    def __init__(
        self, store: Store, replica: Replica, streams: Streams, background: Background, bounds: Bounds
    ) -> None:
        self._store = store
        self._replica = replica
        self._streams = streams
        self._background = background
        self._bounds = bounds
        self._here: dict[str, dict[bytes, Running]] = {}
        self._elsewhere: dict[str, dict[bytes, str]] = {}
        self._fresh: dict[Running, None] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def begin(self, session_id: str, request_id: str | int, cancel: Callable[[], None]) -> Running:
        """Note a request that begins; `end` or `finish` must follow. Raises `DuplicateId` or `TooManyCalls`.

        `cancel` is called on the event loop when the client cancels it or its session ends, and must not raise.
        """
        request = encoding.encode_id(request_id)
        if request in self._elsewhere.get(session_id, ()):
            raise DuplicateId(elsewhere=True)
        running = self._here.get(session_id)
        if running is None:
            running = self._here[session_id] = {}
        elif request in running:
            raise DuplicateId
        elif len(running) >= self._bounds.most_calls:
            raise TooManyCalls
        call = running[request] = Running(session_id, request, cancel, time.monotonic())
        self._fresh[call] = None
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._bounds.register_after_s, self._register_old)
        return call

    def end(self, call: Running) -> None:
        """Note that a request without a stream is over."""
        self._forget(call)
        if call.is_registered or call.registering.locked():
            self._background.start(self._unregister(call))

    async def verify(self, session_id: str, request: bytes) -> None:
        """Ask whether a request of this id is in flight elsewhere, as was heard. Raises `DuplicateId` or `Away`."""
        async with self._store.answering() as redis:
            held = await redis.hget(names.part_key(session_id, "calls"), request)  # type: ignore[misc,arg-type]
        if held is not None and await self._replica.is_alive(_replica_of(held)):
            raise DuplicateId
        self._heard_of_end(session_id, request)

    async def register(self, call: Running, stream: str | None, *, primed: bool = False) -> bool:
        """Make a request known to all replicas, with its stream if it has one; return whether it may go on.

        It may not where it was cancelled, where its session ended, or where its id is in flight elsewhere. Raises
        `Away`.
        """
        async with call.registering:
            stream = stream or call.stream
            if call.is_over:
                return False
            if call.is_registered and stream == call.stream:
                return True
            answer = await self._register(call, stream, primed, lost=b"")
            if answer not in (b"ok", b"ended", b"cancelled") and not await self._replica.is_alive(_replica_of(answer)):
                answer = await self._register(call, stream, primed, lost=answer)
            self._fresh.pop(call, None)
            if answer == b"ok":
                call.is_registered, call.stream = True, stream
                return True
            call.is_duplicate = answer not in (b"ended", b"cancelled")
            call.cancel()
            return False

    async def finish(self, call: Running, message: bytes) -> tuple[int, bool]:
        """End a request that has a stream, with its answer. Return the answer's number there, and whether it counts.

        It counts not where the stream was ended by others, who took this process for lost. Raises `Away`.
        """
        try:
            async with call.registering:
                number = await self._finish(call.session_id, call.request, self._held(call), call.stream, message)
        finally:
            self._forget(call)
        return number, number > 0

    async def cancel(self, session_id: str, request: bytes) -> None:
        """Cancel a request of a session, wherever it runs. Raises `Away`."""
        if self.cancel_here(session_id, request):
            return
        keys = [names.part_key(session_id, "calls"), names.cancelled_key(session_id, request)]
        message = b"cancel %s %s" % (session_id.encode(), request)
        early_ms = int(self._bounds.cancelled_early_s * 1_000)
        await self._store.run("cancel", keys, [request, names.replica_channel(""), message, early_ms])

    def cancel_here(self, session_id: str, request: bytes) -> bool:
        """Cancel a request that runs in this process; return whether there was one."""
        call = self._here.get(session_id, {}).get(request)
        if call is not None:
            call.cancel()
        return call is not None

    def end_session(self, session_id: str) -> None:
        """Cancel every request of a session that runs in this process."""
        self._elsewhere.pop(session_id, None)
        for call in list(self._here.get(session_id, {}).values()):
            call.cancel()

    def heard(self, kind: str, session_id: str, request: bytes, replica: str) -> None:
        """Take in that a request of another replica is in flight, or over."""
        if kind == "call":
            if len(self._elsewhere) >= self._bounds.most_cached:
                self._elsewhere.clear()
            self._elsewhere.setdefault(session_id, {})[request] = replica
        else:
            self._heard_of_end(session_id, request)

    def lost(self, replica: str) -> None:
        """Forget the requests of a replica that is no more."""
        for session_id, requests in list(self._elsewhere.items()):
            for request in [request for request, where in requests.items() if where == replica]:
                self._heard_of_end(session_id, request)

    def resynced(self) -> None:
        """Forget what was heard: ends may have been missed."""
        self._elsewhere.clear()

    async def close_orphans(self, session: Session, stream: str) -> None:
        """End the calls that a stream waits for and whose replica is lost, so that nobody waits for ever."""
        async with self._store.answering() as redis:
            found: Mapping[bytes, bytes] = await redis.hgetall(names.part_key(session.id, "calls"))  # type: ignore[misc]
        for request, held in found.items():
            replica, _, where = held.decode().partition(" ")
            if where == stream and replica != self._replica.name and not await self._replica.is_alive(replica):
                error = orjson.dumps({"jsonrpc": "2.0", "id": orjson.loads(request), "error": _LOST})
                number = await self._finish(session.id, request, held, stream, error)
                if number > 0:
                    self._streams.deliver(session.id, stream, number, error, final=stream != names.STANDALONE)

    async def renew(self) -> None:
        """Keep the streams of calls that take very long."""
        streams = [
            names.stream_key(call.session_id, call.stream)
            for calls in self._here.values()
            for call in calls.values()
            if call.stream != NO_STREAM
        ]
        async with self._store.answering() as redis, redis.pipeline(transaction=False) as pipe:
            for key in streams:
                pipe.expire(key, self._bounds.idle_s)
            await pipe.execute()

    @property
    def running(self) -> Collection[Running]:
        """The requests in flight in this process."""
        return [call for calls in self._here.values() for call in calls.values()]

    def _forget(self, call: Running) -> None:
        call.is_over = True
        self._fresh.pop(call, None)
        running = self._here.get(call.session_id, {})
        if running.get(call.request) is call:
            del running[call.request]
            if not running:
                del self._here[call.session_id]

    def _register_old(self) -> None:
        """Register what has taken a moment; the others are looked at when they have."""
        self._sweep = None
        now = time.monotonic()
        for call in list(self._fresh):
            left_s = call.began + self._bounds.register_after_s - now
            if left_s > 0:
                self._sweep = asyncio.get_running_loop().call_later(left_s, self._register_old)
                return
            del self._fresh[call]
            self._background.start(self._register_unless_known(call))

    async def _register_unless_known(self, call: Running) -> None:
        if not call.is_registered:
            await self.register(call, None)

    async def _register(self, call: Running, stream: str, primed: bool, lost: bytes) -> bytes:
        session_id = call.session_id
        keys = [
            names.record_key(session_id),
            names.part_key(session_id, "calls"),
            names.cancelled_key(session_id, call.request),
            names.stream_key(session_id, stream),
            names.part_key(session_id, "streams"),
        ]
        message = b"call %s %s %s" % (self._replica.name.encode(), session_id.encode(), call.request)
        given: list[Argument] = [call.request, self._replica.name, stream, lost, self._bounds.idle_s, int(primed)]
        answer: bytes = await self._store.run("register", keys, [*given, names.SHARED, message])
        return answer

    async def _unregister(self, call: Running) -> None:
        async with call.registering:
            if call.is_registered:
                await self._finish(call.session_id, call.request, self._held(call), call.stream, b"")

    async def _finish(self, session_id: str, request: bytes, held: bytes, stream: str, message: bytes) -> int:
        keys = [
            names.part_key(session_id, "calls"),
            names.stream_key(session_id, stream),
            names.part_key(session_id, "streams"),
        ]
        stays = stream == names.STANDALONE
        kept_s = self._bounds.idle_s if stays else self._bounds.kept_s
        over = b"done %s %s %s" % (self._replica.name.encode(), session_id.encode(), request)
        given: list[Argument] = [
            request,
            held,
            names.session_channel(session_id),
            stream,
            self._bounds.most_entries,
            kept_s,
        ]
        number: int = await self._store.run("finish", keys, [*given, int(not stays), message, names.SHARED, over])
        return number

    def _held(self, call: Running) -> bytes:
        return f"{self._replica.name} {call.stream}".encode()

    def _heard_of_end(self, session_id: str, request: bytes) -> None:
        requests = self._elsewhere.get(session_id, {})
        requests.pop(request, None)
        if not requests:
            self._elsewhere.pop(session_id, None)


def _replica_of(held: bytes) -> str:
    return held.decode().partition(" ")[0]
