"""One listen stream over HTTP: small, and without a task of its own while nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import mcp_types as mcp
import orjson
import structlog
from mcp.server.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import SERVER_INFO_META_KEY
from starlette.types import Scope, Send

from mercato.plugins.catalog import Catalog, Visible
from mercato.server.auth.directory import Caller
from mercato.server.mcp.delivery import TRANSPORT
from mercato.server.mcp.frames import STREAM_HEADERS, frame
from mercato.server.mcp.streams import is_readable

log = structlog.stdlib.get_logger(__name__)

_MOST_WAITING_BYTES = 256 * 1024
_ENDED = frozenset({"completed", "failed", "cancelled"})
"""Statuses of tasks that are final."""
_LISTS: dict[type[ServerEvent], tuple[str, str]] = {
    ToolsListChanged: ("tools_list_changed", "notifications/tools/list_changed"),
    PromptsListChanged: ("prompts_list_changed", "notifications/prompts/list_changed"),
    ResourcesListChanged: ("resources_list_changed", "notifications/resources/list_changed"),
}
"""Of each list: where it is asked for, and how a change of it is called."""
_ON_THE_WIRE: dict[type[ServerEvent], str] = {
    ToolsListChanged: "toolsListChanged",
    PromptsListChanged: "promptsListChanged",
    ResourcesListChanged: "resourcesListChanged",
}
LookAgain = Callable[[], Awaitable[Caller | None]]


class Watched(NamedTuple):
    """The tasks that a stream tells of."""

    task_ids: frozenset[str]
    told: dict[str, Any]
    """When each was told of last, and as what: nothing is told twice, nor after the end."""


class Stream:
    """One stream: what it asked for, what it may be told, and what waits to be written."""

    __slots__ = (
        "_id",
        "_lists",
        "_look_again",
        "_pump",
        "_queue",
        "_send",
        "_server_info",
        "_transport",
        "_uris",
        "has_ended",
        "looked_at",
        "readable",
        "watched",
    )

    def __init__(
        self,
        scope: Scope,
        send: Send,
        request_id: Any,
        wanted: mcp.SubscriptionFilter,
        visible: Visible,
        look_again: LookAgain,
        server_info: dict[str, Any],
    ) -> None:
        self._transport: Any = scope.get("extensions", {}).get(TRANSPORT)
        self._send = send
        self._id = request_id
        self._lists = tuple(kind for kind, (asked_for, _) in _LISTS.items() if getattr(wanted, asked_for))
        self._uris = tuple(dict.fromkeys(wanted.resource_subscriptions or ()))
        self._look_again = look_again
        self._server_info = server_info
        self._queue: list[bytes] | None = None
        self._pump: asyncio.Task[None] | None = None
        self.looked_at = asyncio.get_running_loop().time()
        self.has_ended = False
        self.watched: Watched | None = None
        self.readable = self._may_read(visible)

    async def begin(self, *headers: tuple[bytes, bytes]) -> None:
        """Send the head and the acknowledgement of what is honoured."""
        honoured: dict[str, Any] = {_ON_THE_WIRE[kind]: True for kind in self._lists}
        if self.readable:
            honoured["resourceSubscriptions"] = sorted(self.readable)
        if self.watched is not None:
            honoured["taskIds"] = sorted(self.watched.task_ids)
        params = {"notifications": honoured, "_meta": {SUBSCRIPTION_ID_META_KEY: self._id}}
        first = _event({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})
        await self._send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *headers]})
        await self._send({"type": "http.response.body", "body": first, "more_body": True})

    def tell(self, event: ServerEvent) -> None:
        """Send an event, if it was asked for and may be known."""
        meta = {SUBSCRIPTION_ID_META_KEY: self._id}
        if isinstance(event, ResourceUpdated):
            if event.uri in self.readable:
                self._notify("notifications/resources/updated", {"uri": event.uri, "_meta": meta})
            return
        if type(event) in self._lists:
            self._notify(_LISTS[type(event)][1], {"_meta": meta})

    async def caller(self) -> Caller | None:
        """Return who it belongs to, with what they may see now; None where the credential is good no more."""
        return await self._look_again()

    def tell_task(self, task_id: str, shown: dict[str, Any]) -> None:
        """Send what there is to say of a task, where that is new."""
        if self.watched is None:
            return
        now = (shown["status"], shown["lastUpdatedAt"], shown.get("statusMessage"))
        before = self.watched.told.get(task_id)
        if before == now or (before is not None and before[0] in _ENDED):
            return
        self.watched.told[task_id] = now
        self._notify("notifications/tasks", {**shown, "_meta": {SUBSCRIPTION_ID_META_KEY: self._id}})

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        self.write(_event({"jsonrpc": "2.0", "method": method, "params": params}))

    async def look_again(self, catalog: Catalog) -> None:
        """Look whether the credential is good still, and what it may read; end the stream if it is not."""
        self.looked_at = asyncio.get_running_loop().time()
        caller = await self._look_again()
        if caller is None:
            self.end()
        elif not self.has_ended:
            self.readable = self._may_read(caller.sees(catalog))

    def end(self) -> None:
        """End the stream: its last frame is the result of the request."""
        if not self.has_ended:
            meta = {SUBSCRIPTION_ID_META_KEY: self._id, SERVER_INFO_META_KEY: self._server_info}
            result = {"resultType": "complete", "_meta": meta}
            self.write(_event({"jsonrpc": "2.0", "id": self._id, "result": result}))
            self.has_ended = True

    def leave(self) -> None:
        """The client is gone, or the stream is over."""
        self.has_ended = True
        self._queue = None
        if self._pump is not None:
            self._pump.cancel()

    def write(self, frame: bytes) -> None:
        """Write a frame. A client that does not read loses its connection: it asks again, and then reads anew."""
        if self.has_ended:
            return
        if self._queue is None:
            self._queue = []
        self._queue.append(frame)
        if sum(map(len, self._queue)) > _MOST_WAITING_BYTES:
            log.warning("a stream was ended: its client does not read")
            self.leave()
            if self._transport is not None:
                self._transport.abort()
        elif self._pump is None:
            self._pump = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._queue:
                chunk, self._queue = b"".join(self._queue), None
                await self._send({"type": "http.response.body", "body": chunk, "more_body": not self.has_ended})
        finally:
            self._pump = None

    def _may_read(self, visible: Visible) -> frozenset[str]:
        return frozenset(uri for uri in self._uris if is_readable(visible, uri))


def _event(message: dict[str, Any]) -> bytes:
    return frame(orjson.dumps(message))
