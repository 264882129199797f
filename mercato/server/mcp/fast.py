"""The fast lane: answers plain requests itself, and hands everything else to the application behind it.

Both must be indistinguishable, which one differential test holds them to. So the lane decides before it does anything
whether it will answer: whatever is not plain, not allowed, not known here or not there is left to the application.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import orjson
from mcp_types import SubscriptionFilter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mercato.plugins.catalog import Catalog, ScopeMissing, Unknown
from mercato.server.auth.credentials import Credential
from mercato.server.auth.directory import Caller, Directory, place_of
from mercato.server.guard import Guard
from mercato.server.heads import KNOWN_HEAD, KnownHead
from mercato.server.limits.windows import Window
from mercato.server.logs import AccessLog
from mercato.server.mcp.definitions import Definitions
from mercato.server.mcp.exchange import Exchange, again, pieces_of, result_message, whole_of
from mercato.server.mcp.handlers import Handlers
from mercato.server.mcp.listen import METHOD, Listening, wanted_of
from mercato.server.mcp.messages import MALFORMED, refusal_of
from mercato.server.mcp.plain import LONGEST_BODY_BYTES, Plain, PlainHead, PlainReader, plain_head
from mercato.server.mcp.silence import SILENT, SILENT_ASKER
from mercato.server.middleware import KnownHosts, request_id_of
from mercato.server.site import is_endpoint
from mercato.server.tracing import Tracing
from mercato.tools.call import Call
from mercato.tools.context import Handover
from mercato.tools.errors import LimitReached, ToolError
from mercato.tools.moments import Moments
from mercato.tools.outcome import Outcome
from mercato.tools.tool import Tool

TOO_LATE = "question_too_late"
_PLAIN = "plain head"
_LISTS = (b"mcp-method", b"tools/list")
_NOTHING: list[Message] = []
Said = Mapping[str, Any]
"""What the log says of a request, besides how it went."""
_Callable = tuple[Tool, Sequence[Window], Said]
"""A tool that may be called, its limits, and what the log says of a call."""
_STRUCTURED = frozenset({"2025-06-18", "2025-11-25"})
"""The versions of the handshake era whose results have everything that ours have."""


class Session(Protocol):
    """A session of the handshake era, as this replica knows it."""

    @property
    def version(self) -> str:
        """The version that was agreed on."""

    @property
    def can_ask(self) -> bool:
        """Whether its client can put a question to its user."""

    @property
    def client_name(self) -> str | None:
        """What its client calls itself."""


class Sessions(Protocol):
    """Finds sessions without waiting."""

    def plain(self, session_id: str, caller: Caller) -> Session | None:
        """Return a session of this caller that is ready for calls and known here; None for any other."""


class Calls(Protocol):
    """The calls in flight of all sessions."""

    def begin(self, session_id: str, request_id: Any, cancel: Callable[[], None]) -> Any:
        """Note a call, which anybody in its session may cancel. Raises `ValueError` for an id that is in flight."""

    def end(self, token: Any) -> None:
        """Forget it."""


class FastLane:
    """Stands before the application and answers what is plain."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: KnownHosts,
        directory: Directory,
        catalog: Catalog,
        handlers: Handlers,
        guard: Guard,
        definitions: Definitions,
        listening: Listening,
        sessions: Sessions | None,
        calls: Calls | None,
        tracing: Tracing | None,
        log: AccessLog,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._known_hosts: dict[bytes, bool] = {}
        self._directory = directory
        self._catalog = catalog
        self._handlers = handlers
        self._guard = guard
        self._definitions = definitions
        self._listening = listening
        self._sessions = sessions
        self._calls = calls
        self._tracing = tracing
        self._log = log
        self._longest_bytes = min(max_body_bytes, LONGEST_BODY_BYTES)
        self._reader = PlainReader()
        self._moments = Moments()

    def at_once(self, scope: Scope, body: bytes | bytearray) -> bool:
        """Answer a POST to the endpoint that asks for a list in the modern era; False, with nothing done, for others.

        Where it is asked the answer costs no task, and a list is the longest of all answers that are made of nothing
        but what is at hand.
        """
        if _LISTS not in scope["headers"] or self._tracing is not None:
            if (known := scope.get(KNOWN_HEAD)) is not None:
                known.needs_task = True
            return False
        found = self._known(scope) if scope["method"] == "POST" and is_endpoint(scope["path"]) else None
        if found is None or len(body) > self._longest_bytes:
            return False
        head, caller = found
        plain = self._reader.read(head, bytes(body))
        if plain is None or not self._may_list(plain, caller) or not self._guard.take_leased(self._reading(caller)):
            return False
        exchange = Exchange(scope, _nothing, _nothing, request_id_of(head.request_id), len(body))
        listed = self._definitions.tools(caller, plain.version)
        if not exchange.answer_at_once(200, result_message(plain, listed)):
            return False
        self._note(exchange, _said(plain.method, caller))
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to the endpoint."""
        found = self._known(scope)
        if found is None:
            await self._app(scope, receive, send)
            return
        head, caller = found
        body, pieces = whole_of(scope), _NOTHING
        if body is None:
            pieces = await pieces_of(receive)
            body = b"".join([piece.get("body", b"") for piece in pieces])
        is_whole = (not pieces or pieces[-1]["type"] == "http.request") and len(body) <= self._longest_bytes
        plain = self._reader.read(head, body) if is_whole else None
        if plain is None:
            if not is_whole or not await self._refused(scope, receive, send, caller, head, body):
                await self._app(scope, again(pieces, body, receive), send)
            return
        exchange = Exchange(scope, receive, send, request_id_of(head.request_id), len(body))
        if plain.method == "tools/call":
            said = await self._call(exchange, plain, caller, head)
        elif plain.method == METHOD and (wanted := wanted_of(plain.arguments or {})) is not None:
            if not await self._admits(exchange, plain, self._reading(caller)):
                self._note(exchange, _said(METHOD, caller))
                return
            serving, said = self._listen(exchange, plain, caller, head, wanted), _said(METHOD, caller)
            # A stream may last for days.
            del pieces, head, body, plain, caller, found, wanted, scope, receive, send
            exchange.status = await serving
            self._note(exchange, said)
            return
        else:
            said = await self._tell(exchange, plain, caller, head)
        if said is None:
            await self._app(scope, again(pieces, body, receive), send)
        else:
            self._note(exchange, said)

    def _known(self, scope: Scope) -> tuple[PlainHead, Caller] | None:
        """Return what the head of a request says and who sent it, if it may be plain and is for us."""
        known: KnownHead | None = scope.get(KNOWN_HEAD)
        kept: tuple[PlainHead, bytes] | None = None if known is None else known.memo.get(_PLAIN)
        if kept is None:
            head = None if scope["query_string"] else plain_head(scope["headers"])
            if head is None or head.content_length > self._longest_bytes or not self._knows(head.host):
                return None
            kept = head, place_of(head.credential)
            if known is not None:
                known.memo[_PLAIN] = kept
        caller = self._directory.at_hand(kept[1], scope["path"])
        return None if caller is None else (kept[0], caller)

    async def _refused(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, head: PlainHead, body: bytes
    ) -> bool:
        """Refuse what is no message, at a fifth of what the application takes; False where it is one."""
        refusal = refusal_of(body)
        if refusal is None:
            return False
        exchange = Exchange(scope, receive, send, request_id_of(head.request_id), len(body))
        await exchange.send_json(refusal[0], refusal[1:])
        self._note(exchange, _said(MALFORMED, caller))
        return True

    def _listen(
        self, exchange: Exchange, plain: Plain, caller: Caller, head: PlainHead, wanted: SubscriptionFilter
    ) -> Awaitable[int]:
        credential = Credential("header", head.credential.decode("latin-1"))
        look_again = partial(self._directory.caller, credential, exchange.scope["path"], caller.reach)
        request_id = (b"x-request-id", exchange.request_id.encode())
        return self._listening.serve(
            exchange.scope,
            exchange.receive,
            exchange.send,
            orjson.loads(plain.id),
            wanted,
            caller,
            look_again,
            request_id,
        )

    def _note(self, exchange: Exchange, said: Said) -> None:
        seconds = time.perf_counter() - exchange.began
        self._log("POST", exchange.scope["path"], said, exchange.status, seconds, exchange.request_id)

    def _knows(self, host: bytes) -> bool:
        known = self._known_hosts.get(host)
        if known is None:
            known = host.decode("latin-1") in self._hosts
            if known and len(host) < 300 and len(self._known_hosts) < 1_000:
                self._known_hosts[host] = known
        return known

    async def _tell(self, exchange: Exchange, plain: Plain, caller: Caller, head: PlainHead) -> Said | None:
        """Answer what is no call; None, with nothing done, where the application must."""
        if head.session_id is not None and not self._adopt(plain, caller, head.session_id):
            return None
        if plain.method == "ping":
            await exchange.send_json(200, result_message(plain, b"{}"))
            return _said(plain.method, caller)
        if plain.method == METHOD or not self._may_list(plain, caller):
            return None
        limits = self._reading(caller)
        if self._guard.take_leased(limits) or await self._admits(exchange, plain, limits):
            listing = plain.method == "tools/list"
            found = self._definitions.tools(caller, plain.version) if listing else self._definitions.discovered(caller)
            await exchange.send_json(200, result_message(plain, found))
        return _said(plain.method, caller)

    def _may_list(self, plain: Plain, caller: Caller) -> bool:
        """Whether the client gets the whole catalogue, and not the search surface."""
        return caller.access.assistant.surface_for(plain.client_name) == "full"

    def _reading(self, caller: Caller) -> Sequence[Window]:
        """Return the limits of what is no call."""
        limits: Sequence[Window] | None = caller.memo.get("limits of reading")
        if limits is None:
            limits = caller.memo["limits of reading"] = self._guard.limits_of_reading(caller.principal, caller.access)
        return limits

    async def _admits(self, exchange: Exchange, plain: Plain, limits: Sequence[Window]) -> bool:
        """Take one of each limit; answer that one was reached, where it was."""
        try:
            await self._guard.take(limits)
        except LimitReached as reached:
            await exchange.send_limit(plain, reached)
            return False
        return True

    def _adopt(self, plain: Plain, caller: Caller, session_id: str) -> bool:
        """Take over what the session says of its client: its record decides, not the headers."""
        session = None if self._sessions is None else self._sessions.plain(session_id, caller)
        if session is None or session.version not in _STRUCTURED:
            return False
        plain.version, plain.can_ask, plain.client_name = session.version, session.can_ask, session.client_name
        return True

    async def _call(self, exchange: Exchange, plain: Plain, caller: Caller, head: PlainHead) -> Said | None:
        """Answer a call; None, with nothing done, where the application must."""
        session_id, calls, running = head.session_id, self._calls, None
        if session_id is not None and not self._adopt(plain, caller, session_id):
            return None
        known = caller.memo.get("tools/call " + plain.name) or self._found(plain.name, caller)
        if known is None:
            return None
        if session_id is not None and calls is not None:
            try:
                running = calls.begin(session_id, orjson.loads(plain.id), exchange.cancel)
            except ValueError:
                return None
        tool, limits, said = known
        try:
            if not (self._guard.take_leased(limits) or await self._admits(exchange, plain, limits)):
                return said
            call = Call(
                tool=tool,
                arguments=plain.arguments or {},
                principal=caller.principal,
                access=caller.access,
                client=SILENT_ASKER if plain.can_ask else SILENT,
                request_id=exchange.request_id,
                era="modern" if plain.is_modern else "legacy",
                session_id=session_id,
                request_bytes=exchange.request_bytes,
                within_limits=True,
                admitted_at=self._guard.admitted(caller.principal.tenant_id),
                delivery=None if tool.read_only else exchange.delivery(),
                watch=exchange,
            )
            exchange.begin(self._moments, is_modern=plain.is_modern)
            try:
                outcome = await (self._handlers.run(call) if self._tracing is None else self._traced(call, plain))
                if outcome.changed:
                    await self._handlers.tell_changed(call, outcome)
            except Handover:
                return said if await self._hand_over(exchange, plain, call) else None
            except asyncio.CancelledError:
                if not exchange.is_cancelled:
                    raise
                await exchange.end_cancelled(plain)
                return said
            finally:
                exchange.end()
            result = self._definitions.result(outcome.wire(), outcome.wire_meta, is_modern=plain.is_modern)
            await exchange.send_result(result_message(plain, result))
            return said
        finally:
            if running is not None and calls is not None:
                calls.end(running)

    async def _hand_over(self, exchange: Exchange, plain: Plain, call: Call) -> bool:
        """Leave a call to the application, which can ask; True where it is too late for that, and was answered."""
        state = exchange.scope.setdefault("state", {})
        state["within_limits"], state["admitted_at"], state["meter"] = True, call.admitted_at, call.meter
        is_too_late = await exchange.hand_over(plain)
        if is_too_late:  # nobody else takes it down
            self._guard.settle(call, TOO_LATE, 0, time.perf_counter() - exchange.began)
        return is_too_late

    def _found(self, name: str, caller: Caller) -> _Callable | None:
        """Look up a tool, and keep what was found with its caller."""
        known = self._callable(name, caller)
        if known is not None:
            caller.memo["tools/call " + name] = known  # nothing else is kept: a client can make up names without an end
        return known

    def _callable(self, name: str, caller: Caller) -> _Callable | None:
        """Return a tool that may be called here, and what belongs to it; None where the application has a say.

        The gate's word holds for as long as the caller is kept: whatever changes it drops the caller.
        """
        try:
            tool = caller.sees(self._catalog).tool(name)
        except (Unknown, ScopeMissing, ToolError):
            return None
        if tool.is_raw or tool.task != "never" or self._definitions.has_headers(tool):
            return None
        limits = self._guard.limits_of(caller.principal, caller.access, tool)
        return tool, limits, {**_said("tools/call", caller), "name": name[:64]}

    async def _traced(self, call: Call, plain: Plain) -> Outcome:
        with self._tracing.call(  # type: ignore[union-attr]  # asked before
            "tools/call",
            name=call.tool.name,
            version=plain.version,
            meta=plain.meta,
            session_id=call.session_id,
            tenant_id=call.principal.tenant_id,
            request_id=call.request_id,
        ) as span:
            outcome = await self._handlers.run(call)
            span.outcome(outcome.code)
            return outcome


def _said(rpc: str, caller: Caller) -> Said:
    return {"rpc": rpc, "tenant_id": caller.access.tenant.id}


async def _nothing(*_: Any) -> Any:
    """Stand where nothing is received or sent."""
