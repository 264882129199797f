"""Streams: what is sent to a client goes into Redis first, so that it can be sent again from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from mercato.server.mcp.sessions import events, names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.reader import Reader
from mercato.server.mcp.sessions.receipts import Receipts
from mercato.server.mcp.sessions.store import Store
from mercato.server.mcp.sessions.writer import Writer
from mercato.server.mcp.sessions.writers import Writers
from mercato.server.script import Argument


class SessionGone(Exception):
    """The session ended in the meantime."""


class UnknownEvent(Exception):
    """The event id names nothing of this session."""


class Streams:
    """Adds to streams, and keeps their writers supplied: at once from this process, over Redis from the others."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        writers: Writers,
        receipts: Receipts,
        background: Background,
        bounds: Bounds,
        replica: str,
    ) -> None:
        self._store = store
        self._reader = reader
        self._writers = writers
        self._receipts = receipts
        self._background = background
        self._bounds = bounds
        self._replica = replica

    async def append(
        self, session_id: str, stream: str, messages: Sequence[bytes], *, question: str = "", told: int = 0
    ) -> None:
        """Add messages to a stream. Raises `SessionGone` or `Away`.

        `question` is the id of the question that the one message puts: this replica waits for its answer. `told` is
        the stamp of the changes that the messages tell of.
        """
        keys = [
            names.record_key(session_id),
            names.stream_key(session_id, stream),
            names.part_key(session_id, "streams"),
            names.part_key(session_id, "waits"),
        ]
        channel = names.session_channel(session_id)
        most, idle_s, stamp = self._bounds.most_entries, self._bounds.idle_s, str(told) if told else ""
        bounds = self._bounds.most_entries_of_sse, self._bounds.longest_shown_bytes
        given: list[Argument] = [channel, stream, most, idle_s, question, self._replica, stamp, *bounds, *messages]
        last = int(await self._store.run("append", keys, given))
        if last == 0:
            raise SessionGone
        for number, message in enumerate(messages, last - len(messages) + 1):
            self.deliver(session_id, stream, number, message)

    def deliver(self, session_id: str, stream: str, number: int, message: bytes, *, final: bool = False) -> None:
        """Hand an entry to its writer, if it is here."""
        writer = self._writers.find(session_id, stream)
        if writer is not None:
            writer.offer(number, message, final=final)

    async def open(self, writer: Writer, after: int | None) -> None:
        """Begin to write a stream: what came after an event, or what comes from now on; then what comes.

        Raises `UnknownEvent`, `SessionGone` or `Away`. `close` must follow in any case.
        """
        session_id = writer.session.id
        self._writers.add(writer)
        await self._reader.join(names.session_channel(session_id), _Listener(self, session_id))
        await self._claim(writer, after)

    async def close(self, writer: Writer) -> None:
        """End what `open` began."""
        self._writers.remove(writer)
        await self._reader.leave(names.session_channel(writer.session.id))

    async def end_writer(self, session_id: str, stream: str) -> None:
        """Have the client come back for the rest of a stream, wherever it is written at the moment."""
        if (writer := self._writers.find(session_id, stream)) is not None:
            writer.close(events.retry(self._bounds.retry_ms))
        async with self._store.answering() as redis:
            await redis.publish(names.session_channel(session_id), f"close {stream}")

    def resynced(self) -> None:
        """Read again what may have been missed."""
        for writer in self._writers.all():
            self._background.start(self._read_missed(writer))

    async def _claim(self, writer: Writer, after: int | None) -> None:
        session_id, stream = writer.session.id, writer.stream
        parts = [names.part_key(session_id, part) for part in ("calls", "streams")]
        keys = [names.record_key(session_id), names.stream_key(session_id, stream), *parts]
        moved = f"moved {session_id} {stream} {self._replica}"
        given = [names.session_channel(session_id), stream, names.replica_channel(""), moved]
        claimed = await self._store.run("claim", keys, given)
        if not claimed:
            raise SessionGone
        writer.told, last = int(claimed[1]), int(claimed[2])
        writer.take_over(int(claimed[0]))
        if after is None:
            writer.start(max(0, last))
        elif after > last:
            raise UnknownEvent
        else:
            missed = await self._entries(session_id, stream, after)
            writer.start(max(after, missed[0][0] - 1) if missed else after)
            await writer.take_all(missed)
            if not missed and await self._has_ended(session_id, stream):
                writer.close()

    async def _read_missed(self, writer: Writer) -> None:
        missed = await self._entries(writer.session.id, writer.stream, writer.last)
        if missed:
            writer.skip_to(missed[0][0])
            await writer.take_all(missed)

    async def _entries(self, session_id: str, stream: str, after: int) -> list[tuple[int, bytes, bool]]:
        async with self._store.answering() as redis:
            found = await redis.xrange(names.stream_key(session_id, stream), min=f"0-{after + 1}")
        return [(int(entry_id[2:]), fields[b"d"], fields.get(b"f") == b"1") for entry_id, fields in found]

    async def _has_ended(self, session_id: str, stream: str) -> bool:
        async with self._store.answering() as redis:
            last = await redis.xrevrange(names.stream_key(session_id, stream), count=1)
        return bool(last) and last[0][1].get(b"f") == b"1"

    def hear(self, session_id: str, message: bytes) -> None:
        """Take in what is published for an open stream of a session."""
        kind, _, rest = message.partition(b" ")
        stream, _, rest = rest.partition(b" ")
        writer = self._writers.find(session_id, stream.decode())
        if writer is None:
            return
        if kind == b"entry":
            number, final, receipt, data = rest.split(b" ", 3)
            writer.offer(int(number), data, final=final == b"1")
            self._receipts.give(writer, receipt.decode())
        elif kind == b"long":
            self._background.start(self._read_long(writer, rest.decode()))
        elif kind == b"close":
            writer.close(events.retry(self._bounds.retry_ms))
        elif kind == b"claim":
            writer.note_claim(int(rest))

    async def _read_long(self, writer: Writer, receipt: str) -> None:
        await self._read_missed(writer)
        self._receipts.give(writer, receipt)


class _Listener:
    """Takes in what is published for the open streams of one session."""

    __slots__ = ("_session_id", "_streams")

    def __init__(self, streams: Streams, session_id: str) -> None:
        self._streams = streams
        self._session_id = session_id

    def __call__(self, message: bytes) -> None:
        self._streams.hear(self._session_id, message)
