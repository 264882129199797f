"""Listening over HTTP: `subscriptions/listen` as a plain stream, of which many thousands may lie idle.

An idle one costs its connection and one small object: it has no task but the request's own, which waits for the client
to leave; it is written to only when something changed; and one timer keeps all of them alive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import mcp_types as mcp
import structlog
from mcp.shared.inbound import InboundModernRoute, classify_inbound_request, find_duplicated_routing_header
from mcp_types.methods import validate_client_request
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mercato.plugins.catalog import Catalog
from mercato.server.auth.directory import LONGEST_AGE_S, Caller
from mercato.server.changes import Change, ChangeBus
from mercato.server.mcp.frames import PING
from mercato.server.mcp.listen_stream import LookAgain, Stream, Watched
from mercato.server.mcp.messages import Message, error_response, limit_response
from mercato.server.mcp.streams import MOST_STREAMS, MOST_URIS
from mercato.server.mcp.subscriptions import events_of
from mercato.server.mcp.tasks.store import TaskStore
from mercato.tenancy.database import is_outage
from mercato.tenancy.errors import NotFound
from mercato.tenancy.principal import Principal
from mercato.tools.errors import LimitReached

log = structlog.stdlib.get_logger(__name__)

METHOD = "subscriptions/listen"
KEEPALIVE_S = 15
_TICK_S = 1.0
_LONGEST_URIS = 32 * 1024
_RETRY_S = 30
MOST_TASKS = 100


class Listening:
    """The listen streams of this process."""

    def __init__(self, catalog: Catalog, changes: ChangeBus, tasks: TaskStore, server_info: dict[str, Any]) -> None:
        self._catalog = catalog
        self._store = tasks
        self._changes = changes
        self._server_info = server_info
        self._of_tenant: dict[int, set[Stream]] = {}
        self._due: deque[tuple[float, Stream]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: dict[str, bool] = {}
        self._looking_after: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def count(self) -> int:
        """How many are open."""
        return sum(map(len, self._of_tenant.values()))

    def start(self) -> None:
        """Begin to hear of changes and to keep streams alive."""
        self._unsubscribe = self._changes.subscribe(self._hear)
        self._looking_after = asyncio.create_task(self._look_after(), name="mercato-listening")

    async def stop(self) -> None:
        """End every stream."""
        self.close()
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._looking_after is not None:
            self._looking_after.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking_after
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """End every stream in the protocol's graceful way."""
        for streams in list(self._of_tenant.values()):
            for stream in list(streams):
                stream.end()

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: Any,
        wanted: mcp.SubscriptionFilter,
        caller: Caller,
        look_again: LookAgain,
        *headers: tuple[bytes, bytes],
    ) -> int:
        """Serve one stream until it ends; return the status that it was answered with."""
        tenant_id = caller.access.tenant.id
        if (refusal := self._refusal(tenant_id, request_id, wanted)) is not None:
            refusal.raw_headers.extend(headers)
            await refusal(scope, receive, send)
            return refusal.status_code
        del refusal
        watched = await self._watched(wanted, caller.principal)
        stream = Stream(scope, send, request_id, wanted, caller.sees(self._catalog), look_again, self._server_info)
        stream.watched = watched
        head, headers = headers, ()
        del (
            request_id,
            caller,
            wanted,
            scope,
            send,
            look_again,
            watched,
        )  # a stream may last for days: none of this is needed
        self._of_tenant.setdefault(tenant_id, set()).add(stream)
        self._due.append((stream.looked_at + KEEPALIVE_S, stream))
        try:
            await stream.begin(*head)
            del head
            for task_id in stream.watched.task_ids if stream.watched is not None else ():
                self._look_at_task(tenant_id, task_id)  # it may have come to its end before the stream was there
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            stream.leave()
            streams = self._of_tenant[tenant_id]
            streams.discard(stream)
            if not streams:
                del self._of_tenant[tenant_id]
        return 200

    def _refusal(self, tenant_id: int, request_id: Any, wanted: mcp.SubscriptionFilter) -> Response | None:
        uris = wanted.resource_subscriptions or ()
        watched = (wanted.model_extra or {}).get("taskIds", [])
        if (
            not isinstance(watched, list)
            or len(watched) > MOST_TASKS
            or not all(isinstance(one, str) for one in watched)
        ):
            text = f"`taskIds` must be a list of {MOST_TASKS:,} texts at most."
            return error_response(400, mcp.INVALID_PARAMS, text, request_id)
        if len(uris) > MOST_URIS or sum(map(len, uris)) > _LONGEST_URIS:
            text = f"A stream may tell of {MOST_URIS:,} resources with {_LONGEST_URIS:,} characters together."
            return error_response(400, mcp.INVALID_PARAMS, text, request_id)
        if len(self._of_tenant.get(tenant_id, ())) >= MOST_STREAMS:
            reached = LimitReached(
                "streams", whose="this tenant", most=MOST_STREAMS, window_s=0, retry_after_s=_RETRY_S
            )
            return limit_response(request_id, reached)
        return None

    async def _watched(self, wanted: mcp.SubscriptionFilter, principal: Principal) -> Watched | None:
        """Return the tasks of this credential that a request wants to be told of, if there are any."""
        owned = await self._store.owned(principal, (wanted.model_extra or {}).get("taskIds", ()))
        return Watched(owned, {}) if owned else None

    def _look_at_task(self, tenant_id: int, task_id: str) -> None:
        """Read a task for those who watch it. One reading at a time: what is told is in its order, and read once."""
        if task_id in self._reading:
            self._reading[task_id] = True  # once more, when that one has ended
        else:
            self._reading[task_id] = False
            self._start(self._read_task(tenant_id, task_id))

    async def _read_task(self, tenant_id: int, task_id: str) -> None:
        try:
            goes_on = True
            while goes_on:
                self._reading[task_id] = False
                try:
                    for caller, streams in await self._watching(tenant_id, task_id):
                        await self._tell_task(caller, streams, task_id)
                except Exception as error:  # an outage has many types, of the driver, the pool and the socket
                    if not is_outage(error):
                        raise
                    log.warning("a stream is not told of a task: its client must ask", error=type(error).__name__)
                goes_on = self._reading[task_id]
        finally:
            del self._reading[task_id]

    async def _watching(self, tenant_id: int, task_id: str) -> Iterable[tuple[Caller, Sequence[Stream]]]:
        """Return the streams that watch a task, by who they belong to and what is open to them: these see the same."""
        found: dict[Any, tuple[Caller, list[Stream]]] = {}
        for stream in list(self._of_tenant.get(tenant_id, ())):
            if stream.watched is not None and task_id in stream.watched.task_ids:
                caller = await stream.caller()
                if caller is not None:  # else it ends with the next look
                    found.setdefault((caller.principal, caller.reach), (caller, []))[1].append(stream)
        return found.values()

    async def _tell_task(self, caller: Caller, streams: Sequence[Stream], task_id: str) -> None:
        try:
            shown = await self._store.shown(caller, UUID(hex=task_id))
        except NotFound:
            return
        for stream in streams:
            stream.tell_task(task_id, shown)

    def _hear(self, change: Change) -> None:
        if change.tenant_id:
            streams: Collection[Stream] = self._of_tenant.get(change.tenant_id, ())
        else:
            streams = [stream for some in self._of_tenant.values() for stream in some]
        if not streams:
            return
        if change.kind == "task" and change.uri is not None:
            self._look_at_task(change.tenant_id, change.uri)
            return
        if change.kind == "access":  # until it is known again what may be read, nothing may
            for stream in streams:
                stream.readable = frozenset()
            self._start(self._look_at(list(streams)))
        for event in events_of(change):
            for stream in list(streams):
                stream.tell(event)

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_S)
            now, old = loop.time(), []
            while self._due and self._due[0][0] <= now:
                _, stream = self._due.popleft()
                if stream.has_ended:
                    continue
                stream.write(PING)
                self._due.append((now + KEEPALIVE_S, stream))
                if now - stream.looked_at >= LONGEST_AGE_S:
                    old.append(stream)
            if old:
                self._start(self._look_at(old))

    async def _look_at(self, streams: Collection[Stream]) -> None:
        for stream in streams:  # one after the other: those of one credential are answered from memory
            try:
                await stream.look_again(self._catalog)
            except Exception as error:  # an outage has many types, of the driver, the pool and the socket
                if not is_outage(error):
                    raise
                log.warning("the database does not answer", error=type(error).__name__)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def is_well_formed(scope: Scope, message: Message) -> bool:
    """Whether a request's headers say what its body says, as the SDK would have it."""
    headers = Request(scope).headers
    if message.id is None or find_duplicated_routing_header(headers.items()) is not None:
        return False
    body = {"jsonrpc": "2.0", "id": message.id, "method": message.method, "params": message.params}
    return isinstance(classify_inbound_request(body, headers=dict(headers)), InboundModernRoute)


def wanted_of(params: dict[str, Any]) -> mcp.SubscriptionFilter | None:
    """Return what a request asks to be told of, if nothing is wrong with it."""
    try:
        validate_client_request(METHOD, LATEST_MODERN_VERSION, params)
        return mcp.SubscriptionsListenRequestParams.model_validate(params, by_name=False).notifications
    except ValidationError:
        return None
