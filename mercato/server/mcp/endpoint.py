"""POST /mcp: read the message, check the scope, hand it to the wire form of its era."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from mcp.server import Server
from mcp.server.streamable_http import check_accept_headers
from mcp_types import INVALID_REQUEST
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from mercato.plugins.catalog import Catalog, ScopeMissing, Visible
from mercato.plugins.surface import UnknownSurface, asked_surface
from mercato.server.auth.challenge import Challenge, needed_scope
from mercato.server.auth.directory import Caller
from mercato.server.guard import Guard
from mercato.server.mcp.legacy import Legacy
from mercato.server.mcp.listen import METHOD, Listening, is_well_formed, wanted_of
from mercato.server.mcp.messages import MALFORMED, Malformed, Message, limit_response, read_message
from mercato.server.mcp.modern import Modern, is_modern
from mercato.tenancy.assistant import Surface
from mercato.tools.errors import LimitReached, ToolError


class Endpoint:
    """The MCP endpoint as an ASGI application. Both protocol eras are served at the same address."""

    def __init__(
        self,
        server: Server[Any],
        catalog: Catalog,
        guard: Guard,
        legacy: Legacy,
        listening: Listening,
        *,
        max_body_bytes: int,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._listening = listening
        self._modern = Modern(server, max_body_bytes)
        self._legacy = legacy

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Keep the wire forms running."""
        self._listening.start()
        try:
            async with self._modern.run(), self._legacy.run():
                yield
        finally:
            await self._listening.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request = Request(scope, receive)
        if request.method in {"GET", "DELETE"}:
            await self._legacy.handle(scope, receive, send, None)
            return
        try:
            _check_headers(request)
            body = await request.body()
            message = read_message(body)
            request.state.surface = _asked_surface(scope, message)
        except Malformed as broken:
            request.state.said = {"rpc": MALFORMED, "tenant_id": request.state.caller.access.tenant.id}
            await broken.response()(scope, receive, send)
            return
        except ClientDisconnect:
            return
        request.state.said = _said(message, request.state.caller)
        request.state.request_bytes = len(body)
        modern = is_modern(scope)
        if message.method is None and modern:  # an answer, though nothing was asked: taken in, as the protocol has it
            await Response(status_code=202)(scope, receive, send)
        elif (refusal := self._scope_refusal(message, request) or await self.limit(message, request)) is not None:
            await refusal(scope, receive, send)
        elif modern:
            await self._serve_modern(scope, receive, send, message, body)
        else:
            await self._legacy.handle(scope, receive, send, message)

    async def _serve_modern(self, scope: Scope, receive: Receive, send: Send, message: Message, body: bytes) -> None:
        caller: Caller = scope["state"]["caller"]
        if message.method == METHOD and is_well_formed(scope, message):
            wanted, look_again = wanted_of(message.params), scope["state"]["look_again"]
            if wanted is not None:
                await self._listening.serve(scope, receive, send, message.id, wanted, caller, look_again)
                return
        await self._modern.handle(scope, _replayed(body, receive), send)

    def _scope_refusal(self, message: Message, request: Request) -> Response | None:
        """Return the step-up challenge where the credential lacks a scope: an HTTP 403, not an error inside."""
        caller: Caller = request.state.caller
        visible = _seen(self._catalog, request)
        arguments = _arguments(message)
        lookups: dict[str, tuple[str, Callable[[str], Any]]] = {
            "tools/call": ("name", lambda name: visible.resolve(name, arguments)),
            "prompts/get": ("name", visible.prompt),
            "resources/read": ("uri", visible.resource),
        }
        key, look_up = lookups.get(message.method or "", ("", None))
        if look_up is None or not isinstance(message.params.get(key), str):
            return None
        try:
            look_up(message.params[key])
        except ScopeMissing as missing:
            return _step_up(missing, message, caller, request.state.challenge)
        except (LookupError, ToolError):
            return None
        return None

    async def limit(self, message: Message, request: Request, *, on_stream: bool = False) -> Response | None:
        """Ask the Guard, here and not inside, where no answer can be an HTTP 429.

        A call that is answered on a stream is let through: it is asked about inside, and the model reads the refusal.
        """
        caller: Caller = request.state.caller
        try:
            if message.method == "tools/call":
                if not hasattr(request.state, "within_limits"):
                    await self._limit_call(message, request, caller, on_stream=on_stream)
            elif message.id is not None and message.method not in _FREE:
                await self._guard.admit_reading(caller.principal, caller.access)
        except LimitReached as reached:
            return limit_response(message.id, reached)
        return None

    async def _limit_call(self, message: Message, request: Request, caller: Caller, *, on_stream: bool) -> None:
        """Count a call; one that will be refused is bounded as lists are. Raises `LimitReached`."""
        try:
            visible = _seen(self._catalog, request)
            tool, _ = visible.resolve(str(message.params.get("name")), _arguments(message))
        except (LookupError, ScopeMissing, ToolError):
            await self._guard.admit_reading(caller.principal, caller.access)
            return
        if not on_stream:
            await self._guard.ask_limits(caller.principal, caller.access, tool)
            request.state.within_limits = True


_FREE = frozenset({"ping"})
"""What counts under no limit: it costs nothing."""


def _check_headers(request: Request) -> None:
    """Refuse what is no MCP request at all. Raises `Malformed`."""
    if request.method != "POST":
        raise Malformed(INVALID_REQUEST, "Send a POST.", status=405)
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise Malformed(INVALID_REQUEST, "The Content-Type must be application/json.")
    if check_accept_headers(request) != (True, True):
        text = "The client must accept both application/json and text/event-stream."
        raise Malformed(INVALID_REQUEST, text, status=406)


def _asked_surface(scope: Scope, message: Message) -> Surface | None:
    """Return the surface that the URL asks for. Raises `Malformed`."""
    try:
        return asked_surface(scope["query_string"])
    except UnknownSurface as unknown:
        raise Malformed(INVALID_REQUEST, str(unknown), message.id) from None


def _seen(catalog: Catalog, request: Request) -> Visible:
    """Return the catalogue as the caller sees it. Whether a session is on the search surface is not known here yet:
    what it executes is resolved all the same, and where it is on the full one, the handler knows no such tool.
    """
    caller: Caller = request.state.caller
    return caller.sees(catalog).on(request.state.surface or "search")


def _arguments(message: Message) -> dict[str, Any]:
    arguments = message.params.get("arguments")
    return arguments if isinstance(arguments, dict) else {}


def _said(message: Message, caller: Caller) -> dict[str, Any]:
    """Return what the log says of a message: who called what, and nothing of its content."""
    said: dict[str, Any] = {"rpc": (message.method or "answer")[:64], "tenant_id": caller.access.tenant.id}
    if isinstance(name := message.params.get("name"), str) and message.method in {"tools/call", "prompts/get"}:
        said["name"] = name[:64]
    return said


def _step_up(missing: ScopeMissing, message: Message, caller: Caller, challenge: Challenge) -> Response:
    scope = needed_scope(caller.principal, missing.scope)
    body = {
        "jsonrpc": "2.0",
        "id": message.id,
        "error": {
            "code": INVALID_REQUEST,
            "message": f"{missing} Whoever connected this client can allow it, or make a key that has it.",
            "data": {"code": "insufficient_scope", "scope": missing.scope},
        },
    }
    headers = {"WWW-Authenticate": challenge.insufficient(scope)}
    return Response(orjson.dumps(body), status_code=403, media_type="application/json", headers=headers)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once more, then goes on to tell of the disconnect."""
    given = False

    async def replay() -> AsgiMessage:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
