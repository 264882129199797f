"""The registry: which requests are in flight, and where, as all replicas see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mercato.server.mcp.sessions import names
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.receipts import NO_RECEIPT
from mercato.server.mcp.sessions.replica import Replica
from mercato.server.mcp.sessions.running import NO_STREAM, Running
from mercato.server.mcp.sessions.store import Store
from mercato.server.script import Argument

Verdict = Literal["known", "ended", "cancelled", "duplicate"]
GONE = -2


@dataclass(frozen=True, slots=True)
class Entry:
    """A request in flight as Redis has it: `held` says by which replica, on which stream, and which request it is."""

    session_id: str
    request: bytes
    held: bytes

    @property
    def replica(self) -> str:
        """Where it runs."""
        return self.held.decode().split(" ")[0]

    @property
    def stream(self) -> str:
        """The stream that it is answered on, or `-`."""
        return self.held.decode().split(" ")[1]


class Registry:
    """Enters requests and strikes them out. Raises `Away` where Redis does not answer."""

    def __init__(self, store: Store, replica: Replica, bounds: Bounds) -> None:
        self._store = store
        self._replica = replica
        self._bounds = bounds

    def entry_of(self, call: Running) -> Entry:
        """Return what a request of this process is entered as."""
        held = f"{self._replica.name} {call.stream} {call.number}".encode()
        return Entry(call.session_id, call.request, held)

    async def enter(self, call: Running, stream: str, *, primed: bool) -> Verdict:
        """Enter a request with its stream; one of the same id whose replica is lost gives way."""
        answer = await self._enter(call, stream, primed=primed, lost=b"")
        if answer not in (b"ok", b"ended", b"cancelled"):
            if await self._replica.is_alive(Entry(call.session_id, call.request, answer).replica):
                return "duplicate"
            answer = await self._enter(call, stream, primed=primed, lost=answer)
        if answer == b"ok":
            return "known"
        return "ended" if answer == b"ended" else "cancelled" if answer == b"cancelled" else "duplicate"

    async def strike_out(self, entry: Entry, message: bytes = b"", receipt: str = NO_RECEIPT) -> tuple[int, int]:
        """End a request, once, whoever does it, with the last message of its stream, if it has one.

        Return the number of the message, or -1 where the request was ended by somebody else, or `GONE` where nothing
        of its session is in Redis any more; and how many replicas have been shown it.
        """
        session_id, stream = entry.session_id, entry.stream
        keys = [
            names.part_key(session_id, "calls"),
            names.stream_key(session_id, stream),
            names.part_key(session_id, "streams"),
            names.part_key(session_id, "ended"),
            names.record_key(session_id),
        ]
        stays = stream == names.STANDALONE
        kept_s = self._bounds.idle_s if stays else self._bounds.kept_s
        channel, most = names.session_channel(session_id), self._bounds.most_entries
        given: list[Argument] = [entry.request, entry.held, channel, stream, most, kept_s, int(not stays), message]
        over = b"done %s %s %s" % (self._replica.name.encode(), session_id.encode(), entry.request)
        bounds = self._bounds.most_entries_of_sse, self._bounds.longest_shown_bytes
        number, shown = await self._store.run("finish", keys, [*given, names.SHARED, over, receipt, *bounds])
        return int(number), int(shown)

    async def find(self, session_id: str, request: bytes) -> Entry | None:
        """Return a request that is in flight, and whose replica lives."""
        async with self._store.answering() as redis:
            held = await redis.hget(names.part_key(session_id, "calls"), request)  # type: ignore[misc,arg-type]
        entry = None if held is None else Entry(session_id, request, held)
        return entry if entry is not None and await self._replica.is_alive(entry.replica) else None

    async def orphans(self, session_id: str, stream: str) -> list[Entry]:
        """Return the requests that are answered on this stream and whose replica is lost."""
        async with self._store.answering() as redis:
            found: Mapping[bytes, bytes] = await redis.hgetall(names.part_key(session_id, "calls"))  # type: ignore[misc]  # typed for both clients
        entries = [Entry(session_id, request, held) for request, held in found.items()]
        foreign = [entry for entry in entries if entry.stream == stream and entry.replica != self._replica.name]
        return [entry for entry in foreign if not await self._replica.is_alive(entry.replica)]

    async def pass_on_cancellation(self, session_id: str, request: bytes) -> None:
        """Tell the replica that runs a request; where none is known, keep it for a moment: it may have come first."""
        keys = [names.part_key(session_id, "calls"), names.cancelled_key(session_id, request)]
        message = b"cancel %s %s" % (session_id.encode(), request)
        early_ms = int(self._bounds.cancelled_early_s * 1_000)
        await self._store.run("cancel", keys, [request, names.replica_channel(""), message, early_ms])

    async def renew(self, calls: Iterable[Running]) -> None:
        """Keep the streams of requests that take very long."""
        async with self._store.answering() as redis, redis.pipeline(transaction=False) as pipe:
            for call in calls:
                if call.stream != NO_STREAM:
                    pipe.expire(names.stream_key(call.session_id, call.stream), self._bounds.idle_s)
            await pipe.execute()

    async def _enter(self, call: Running, stream: str, *, primed: bool, lost: bytes) -> bytes:
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
        answer: bytes = await self._store.run("register", keys, [*given, names.SHARED, message, call.number])
        return answer
