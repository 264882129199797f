"""Writers: the open streams of this process, and the one timer that looks after all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from mercato.server.mcp.sessions import events
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.sessions import Sessions
from mercato.server.mcp.sessions.writer import Writer
from mercato.tenancy.database import is_outage

_TICK_S = 1


class Writers:
    """Finds writers by session and stream, and by tenant. The newest writer of a stream replaces the one before."""

    def __init__(self, sessions: Sessions, background: Background, bounds: Bounds) -> None:
        self._sessions = sessions
        self._background = background
        self._bounds = bounds
        self._of_session: dict[str, dict[str, Writer]] = {}
        self._of_tenant: dict[int, set[Writer]] = {}
        self._opening: Counter[int] = Counter()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after them."""
        self._running = asyncio.create_task(self._run(), name="mercato-writers")

    async def stop(self) -> None:
        """Look after them no more."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    def has_room(self, tenant_id: int) -> bool:
        """Whether one more stream of this tenant may be opened here."""
        return len(self._of_tenant.get(tenant_id, ())) + self._opening[tenant_id] < self._bounds.most_streams

    @contextmanager
    def opening(self, tenant_id: int) -> Iterator[None]:
        """Keep a place for a stream while its session is begun."""
        self._opening[tenant_id] += 1
        try:
            yield
        finally:
            self._opening[tenant_id] -= 1
            if not self._opening[tenant_id]:
                del self._opening[tenant_id]

    def add(self, writer: Writer) -> None:
        """Take in a writer."""
        older = self.find(writer.session.id, writer.stream)
        self._of_session.setdefault(writer.session.id, {})[writer.stream] = writer
        self._of_tenant.setdefault(writer.session.tenant_id, set()).add(writer)
        if older is not None:
            older.close()

    def remove(self, writer: Writer) -> None:
        """Forget a writer."""
        streams = self._of_session.get(writer.session.id, {})
        if streams.get(writer.stream) is writer:
            del streams[writer.stream]
            if not streams:
                del self._of_session[writer.session.id]
        others = self._of_tenant.get(writer.session.tenant_id, set())
        others.discard(writer)
        if not others:
            self._of_tenant.pop(writer.session.tenant_id, None)

    def find(self, session_id: str, stream: str) -> Writer | None:
        """Return the writer of a stream, if it is here."""
        return self._of_session.get(session_id, {}).get(stream)

    def of_session(self, session_id: str) -> Collection[Writer]:
        """Return the writers of a session."""
        return list(self._of_session.get(session_id, {}).values())

    def of_tenant(self, tenant_id: int) -> Collection[Writer]:
        """Return the writers of a tenant."""
        return list(self._of_tenant.get(tenant_id, ()))

    def all(self) -> Collection[Writer]:
        """Return every writer."""
        return [writer for writers in self._of_tenant.values() for writer in writers]

    def look_again(self, tenant_id: int) -> None:
        """Look whether credentials are good still: of one tenant's streams, or of all with 0."""
        writers = self.all() if tenant_id == 0 else self.of_tenant(tenant_id)
        if writers:
            self._background.start(self._look_at(writers))

    async def _run(self) -> None:
        while True:
            tick_s = min(_TICK_S, self._bounds.keepalive_s / 4)
            await asyncio.sleep(tick_s)
            writers = self.all()
            # Streams that were opened together must not all be written at the same instant for ever.
            room = 1 + 2 * int(len(writers) * tick_s / self._bounds.keepalive_s)
            now = asyncio.get_running_loop().time()
            for writer in writers:
                if room and now - writer.wrote_at >= self._bounds.keepalive_s:
                    room -= 1
                    self._keep_alive(writer, now)
                if now - writer.looked_at >= self._bounds.looked_at_every_s and not writer.is_closing:
                    writer.looked_at = now
                    self._background.start(self._look(writer))

    def _keep_alive(self, writer: Writer, now: float) -> None:
        writer.wrote_at = now
        writer.push(events.KEEPALIVE)
        session = self._sessions.known(writer.session.id) or writer.session
        if self._sessions.is_due(session):
            self._background.start(self._renew(writer))

    async def _renew(self, writer: Writer) -> None:
        """Put off the end of a session that listens; where it has ended nevertheless, there is nothing to listen to."""
        if not await self._sessions.renew(writer.session):
            writer.close()

    async def _look_at(self, writers: Collection[Writer]) -> None:
        for writer in writers:  # one after the other: those of one credential are answered from memory
            await self._look(writer)

    async def _look(self, writer: Writer) -> None:
        """End a stream whose credential is good no more."""
        try:
            caller = await writer.look_again()
        except Exception as error:  # an outage has many types, of the driver, the pool and the socket
            if not is_outage(error):
                raise
            return  # the database is away: ask again later
        if caller is None:
            writer.close()
