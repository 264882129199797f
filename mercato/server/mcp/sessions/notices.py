"""Notices: what changed for a tenant, told to its sessions: now if they have a stream open, else when they have."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress

from mercato.plugins.catalog import Catalog
from mercato.server.changes import Change, stamp_key
from mercato.server.mcp.sessions import encoding, names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.store import Store
from mercato.server.mcp.sessions.streams import SessionGone, Streams
from mercato.server.mcp.sessions.writer import Writer
from mercato.server.mcp.sessions.writers import Writers
from mercato.server.mcp.streams import is_readable

_LISTS = tuple(
    encoding.notification(f"notifications/{name}/list_changed") for name in ("tools", "prompts", "resources")
)


class Notices:
    """Listens to changes. Several that come close together are told of once.

    Redis has a stamp of each tenant's last change, and each session's record a stamp of what it was told. That is how
    a session whose stream was closed learns, when it opens one again, that it missed something.
    """

    def __init__(
        self,
        store: Store,
        streams: Streams,
        writers: Writers,
        catalog: Catalog,
        background: Background,
        bounds: Bounds,
    ) -> None:
        self._store = store
        self._streams = streams
        self._writers = writers
        self._catalog = catalog
        self._background = background
        self._bounds = bounds
        self._gathering: dict[int, set[str | None]] = {}

    def take(self, change: Change) -> None:
        """Take in a change. That of all tenants is what the bus says after a gap: then the stamps are compared."""
        if change.kind == "task":  # of the modern era only
            return
        if change.kind == "access":
            self._writers.look_again(change.tenant_id)
        if change.tenant_id == 0:
            self._background.start(self._tell_missed())
        elif change.tenant_id in self._gathering:
            self._gathering[change.tenant_id].add(change.uri)
        elif self._standalone(self._writers.of_tenant(change.tenant_id)):
            self._gathering[change.tenant_id] = {change.uri}
            self._background.start(self._tell(change.tenant_id))

    async def tell_missed(self, writer: Writer) -> None:
        """Tell one session what changed while it had no stream open. Raises `SessionGone` or `Away`."""
        uris = sorted(writer.session.uris)
        stamps = await self._stamps(writer.session.tenant_id, [None, *uris])
        newer = [uri for uri, stamp in stamps.items() if stamp > writer.told]
        if newer:
            await self._send(writer, newer, max(stamps.values()))

    async def _tell_missed(self) -> None:
        for writer in self._standalone(self._writers.all()):
            with suppress(SessionGone):
                await self.tell_missed(writer)

    async def _tell(self, tenant_id: int) -> None:
        await asyncio.sleep(self._bounds.gathered_s)
        changed = self._gathering.pop(tenant_id)
        stamps = await self._stamps(tenant_id, changed)
        for writer in self._standalone(self._writers.of_tenant(tenant_id)):
            self._background.start(self._tell_one(writer, changed, max(stamps.values(), default=0)))

    async def _tell_one(self, writer: Writer, changed: Collection[str | None], stamp: int) -> None:
        try:
            await self._send(writer, changed, stamp)
        except SessionGone:
            writer.close()

    async def _send(self, writer: Writer, changed: Iterable[str | None], stamp: int) -> None:
        messages: list[bytes] = []
        uris = {uri for uri in changed if uri is not None} & writer.session.uris
        if None in set(changed):
            messages += _LISTS
        if uris and (caller := await writer.look_again()) is not None:
            visible = caller.sees(self._catalog)
            readable = sorted(uri for uri in uris if is_readable(visible, uri))
            messages += [encoding.notification("notifications/resources/updated", {"uri": uri}) for uri in readable]
        if messages and not writer.is_closing:
            writer.told = max(writer.told, stamp)
            await self._streams.append(writer.session.id, names.STANDALONE, messages, told=writer.told)

    async def _stamps(self, tenant_id: int, changed: Collection[str | None]) -> dict[str | None, int]:
        uris = list(changed)
        async with self._store.answering() as redis:
            of_all, *found = await redis.mget([stamp_key(0, None), *(stamp_key(tenant_id, uri) for uri in uris)])
        stamps = {uri: int(stamp or 0) for uri, stamp in zip(uris, found, strict=True)}
        if None in stamps:  # another catalogue is served: a change of everybody's lists
            stamps[None] = max(stamps[None], int(of_all or 0))
        return stamps

    def _standalone(self, writers: Collection[Writer]) -> list[Writer]:
        return [writer for writer in writers if writer.stream == names.STANDALONE and not writer.is_closing]
