"""Parts: what sessions are made of in one process, put together, started and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import structlog
from mcp.server import Server
from redis.asyncio import Redis

from mercato.plugins.catalog import Catalog
from mercato.server.changes import ChangeBus
from mercato.server.mcp.sessions import events, names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.calls import Calls
from mercato.server.mcp.sessions.notices import Notices
from mercato.server.mcp.sessions.questions import Questions
from mercato.server.mcp.sessions.reader import Reader
from mercato.server.mcp.sessions.receipts import Receipts
from mercato.server.mcp.sessions.registry import Registry
from mercato.server.mcp.sessions.replica import Replica, new_replica
from mercato.server.mcp.sessions.sessions import Sessions
from mercato.server.mcp.sessions.store import Away, Store
from mercato.server.mcp.sessions.streams import Streams
from mercato.server.mcp.sessions.writer import Writer
from mercato.server.mcp.sessions.writers import Writers

log = structlog.stdlib.get_logger(__name__)


class Parts:
    """Everything that serves sessions here. What other replicas tell this one is passed on from here."""

    def __init__(self, server: Server[Any], redis: Redis, changes: ChangeBus, catalog: Catalog, bounds: Bounds) -> None:
        replica = new_replica()
        self.server = server
        self.bounds = bounds
        self.lifespan_state: Any = None
        self.draining = False
        self.exchanges = Background()
        self.background = Background()
        self.store = Store(redis, bounds)
        self.reader = Reader(redis, bounds, self._resynced)
        self.replica = Replica(replica, self.store, self.reader, bounds)
        self.sessions = Sessions(self.store, replica, self.background, bounds)
        self.writers = Writers(self.sessions, self.background, bounds)
        self.receipts = Receipts(self.store, self.background, bounds, replica)
        self.streams = Streams(self.store, self.reader, self.writers, self.receipts, self.background, bounds, replica)
        registry = Registry(self.store, self.replica, bounds)
        self.calls = Calls(registry, self.streams, self.background, bounds)
        self.questions = Questions(self.store, self.background, bounds)
        self.notices = Notices(self.store, self.streams, self.writers, catalog, self.background, bounds)
        self._changes = changes

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve sessions. At the end calls may go on for a moment; those that remain are answered with an error."""
        self.reader.keep(names.SHARED, self._hear_all)
        self.reader.keep(names.replica_channel(self.replica.name), self._hear_own)
        self.reader.start()
        self.replica.start()
        self.writers.start()
        renewing = asyncio.create_task(self._renew(), name="mercato-calls")
        unsubscribe = self._changes.subscribe(self.notices.take)
        try:
            async with self.server.lifespan(self.server) as self.lifespan_state:
                yield
        finally:
            unsubscribe()
            renewing.cancel()
            await self.exchanges.stop(self.bounds.ending_s)
            await self.background.stop(self.bounds.redis_s)
            await self.writers.stop()
            await self.replica.stop()
            await self.reader.stop()

    def close(self) -> None:
        """Open no more streams, and have the clients of those that wait come back, to another replica."""
        self.draining = True
        for writer in self.writers.all():
            if writer.token or writer.stream == names.STANDALONE:
                writer.close(b"" if writer.session.transport == "sse" else events.retry(self.bounds.retry_ms))

    def end_session(self, session_id: str) -> None:
        """End what goes on here for a session that has ended."""
        self.sessions.forget(session_id)
        self.calls.end_session(session_id)
        for writer in self.writers.of_session(session_id):
            writer.close()

    def _hear_all(self, message: bytes) -> None:
        kind, replica, rest = (*message.split(b" ", 2), b"")[:3]
        sender = replica.decode()
        if kind == b"lost":
            self.calls.lost(sender)
            self._look_for_orphans()
        elif kind == b"ended":
            self.end_session(rest.decode())
        elif kind == b"changed":
            self._hear_of_change(sender, rest.decode())
        elif kind in (b"call", b"done") and sender != self.replica.name:
            session_id, request = rest.split(b" ", 1)
            if kind == b"call":
                self.calls.heard_of_begin(session_id.decode(), request, sender)
            else:
                self.calls.heard_of_end(session_id.decode(), request)

    def _hear_own(self, message: bytes) -> None:
        kind, session, rest = message.split(b" ", 2)
        session_id = session.decode()
        if kind == b"cancel":
            self.calls.cancel_here(session_id, rest)
        elif kind == b"reply":
            self.questions.heard_reply(session_id, rest.decode())
        elif kind == b"progress":
            self.questions.heard_progress(session_id, orjson.loads(rest))
        elif kind == b"received":
            token, delivered = rest.decode().split(" ")
            self.receipts.heard(token, delivered=delivered == "1")
        elif kind == b"moved":
            self._hear_of_move(session_id, *rest.decode().split(" "))

    def _hear_of_change(self, sender: str, session_id: str) -> None:
        if sender != self.replica.name:
            self.sessions.forget(session_id)
            for writer in self.writers.of_session(session_id):
                self.background.start(self._refresh(writer))

    def _hear_of_move(self, session_id: str, stream: str, replica: str) -> None:
        """The client came back for this stream elsewhere: the answer of its request is written no more."""
        writer = self.writers.find(session_id, stream)
        if writer is not None and writer.token == 0 and replica != self.replica.name:
            writer.close()

    async def _refresh(self, writer: Writer) -> None:
        session = await self.sessions.read(writer.session.id)
        if session is not None:
            writer.session = session

    def _look_for_orphans(self) -> None:
        for writer in self.writers.all():
            if writer.token and (writer.stream != names.STANDALONE or writer.session.transport == "sse"):
                self.background.start(self.calls.close_orphans(writer.session, writer.stream))

    def _resynced(self) -> None:
        self.sessions.forget_all()
        self.calls.resynced()
        self.streams.resynced()
        self.questions.resynced()
        self._look_for_orphans()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.bounds.touched_every_s)
            with suppress(Away):
                await self.calls.renew()
