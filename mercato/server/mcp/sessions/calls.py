"""Calls: the requests that are in flight, known here at once and to the other replicas where it matters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import mcp_types as mcp
import orjson

from mercato.server.mcp.sessions import encoding, names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.receipts import NO_RECEIPT
from mercato.server.mcp.sessions.record import Session
from mercato.server.mcp.sessions.registry import Registry
from mercato.server.mcp.sessions.running import Running
from mercato.server.mcp.sessions.streams import Streams

_VERIFIED_AGAIN_S = 0.05
_LOST = mcp.ErrorData(
    code=mcp.INTERNAL_ERROR, message="The server that ran this was lost; whether it was done is not certain."
)


class DuplicateId(ValueError):
    """A request of this id is in flight already; `elsewhere` by what was heard, which `verify` settles."""

    def __init__(self, *, elsewhere: bool = False) -> None:
        super().__init__()
        self.elsewhere = elsewhere


class TooManyCalls(ValueError):
    """The session has as many requests in flight as it may have."""


class Calls:
    """Keeps the requests in flight.

    Most are over before anybody else could want to know of them: one is made known to all replicas when it emits, or
    once it has taken a moment. From then on it can be cancelled anywhere, its id is refused everywhere, and its stream
    is ended by somebody else should this process be lost.
    """

    def __init__(self, registry: Registry, streams: Streams, background: Background, bounds: Bounds) -> None:
        self._registry = registry
        self._streams = streams
        self._background = background
        self._bounds = bounds
        self._here: dict[str, dict[bytes, Running]] = {}
        self._elsewhere: dict[str, dict[bytes, str]] = {}
        self._fresh: dict[Running, None] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def running(self) -> Collection[Running]:
        """The requests in flight in this process."""
        return [call for calls in self._here.values() for call in calls.values()]

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
        call = running[request] = Running(session_id, request, cancel)
        self._fresh[call] = None
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._bounds.register_after_s, self._register_old)
        return call

    def end(self, call: Running) -> None:
        """Note that a request without a stream is over."""
        self._forget(call)
        if call.is_registered or call.registering.locked():
            self._background.start(self._strike_out(call))

    async def end_known(self, call: Running) -> None:
        """The same, and wait until the other replicas can know: a client may use an id again once it is answered."""
        self._forget(call)
        await self._strike_out(call)

    async def verify(self, session_id: str, request: bytes) -> None:
        """Ask whether a request of this id is in flight elsewhere, as was heard. Raises `DuplicateId` or `Away`.

        Twice: one that has just been answered may still be entered.
        """
        if await self._registry.find(session_id, request) is not None:
            await asyncio.sleep(_VERIFIED_AGAIN_S)
            if await self._registry.find(session_id, request) is not None:
                raise DuplicateId
        self.heard_of_end(session_id, request)

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
            verdict = await self._registry.enter(call, stream, primed=primed)
            self._fresh.pop(call, None)
            if verdict == "known":
                call.is_registered, call.stream = True, stream
                return True
            call.is_duplicate = verdict == "duplicate"
            call.cancel()
            return False

    async def finish(self, call: Running, message: bytes, receipt: str = NO_RECEIPT) -> tuple[int, int]:
        """End a request that has a stream, with its answer.

        Return the answer's number there, or -1 where it does not count because others took this process for lost, and
        how many replicas have been shown it. Raises `Away`.
        """
        try:
            async with call.registering:
                return await self._registry.strike_out(self._registry.entry_of(call), message, receipt)
        finally:
            self._forget(call)

    async def cancel(self, session_id: str, request: bytes) -> None:
        """Cancel a request of a session, wherever it runs. Raises `Away`."""
        if not self.cancel_here(session_id, request):
            await self._registry.pass_on_cancellation(session_id, request)

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

    def heard_of_begin(self, session_id: str, request: bytes, replica: str) -> None:
        """Take in that a request is in flight in another replica."""
        if len(self._elsewhere) >= self._bounds.most_cached:
            self._elsewhere.clear()
        self._elsewhere.setdefault(session_id, {})[request] = replica

    def heard_of_end(self, session_id: str, request: bytes) -> None:
        """Take in that it is over."""
        requests = self._elsewhere.get(session_id, {})
        requests.pop(request, None)
        if not requests:
            self._elsewhere.pop(session_id, None)

    def lost(self, replica: str) -> None:
        """Forget the requests of a replica that is no more."""
        for session_id, requests in list(self._elsewhere.items()):
            for request in [request for request, where in requests.items() if where == replica]:
                self.heard_of_end(session_id, request)

    def resynced(self) -> None:
        """Forget what was heard: ends may have been missed."""
        self._elsewhere.clear()

    async def close_orphans(self, session: Session, stream: str) -> None:
        """End the requests that a stream waits for and whose replica is lost, so that nobody waits for ever."""
        for entry in await self._registry.orphans(session.id, stream):
            error = encoding.failure(orjson.loads(entry.request), _LOST)
            number, _ = await self._registry.strike_out(entry, error)
            if number > 0:
                self._streams.deliver(session.id, stream, number, error, final=stream != names.STANDALONE)

    async def renew(self) -> None:
        """Keep the streams of requests that take very long. Raises `Away`."""
        await self._registry.renew(self.running)

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

    async def _strike_out(self, call: Running) -> None:
        async with call.registering:
            if call.is_registered:
                await self._registry.strike_out(self._registry.entry_of(call))
