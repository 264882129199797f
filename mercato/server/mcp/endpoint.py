"""POST /mcp: read the message, check the scope, hand it to the wire form of its era."""

from __future__ import annotations

from collections.abc import AsyncIterator
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

from mercato.plugins.catalog import Catalog, ScopeMissing
from mercato.server.auth.challenge import Challenge, needed_scope
from mercato.server.auth.directory import Caller
from mercato.server.mcp.legacy import Legacy
from mercato.server.mcp.messages import Malformed, Message, read_message
from mercato.server.mcp.modern import Modern, is_modern
from mercato.tools.errors import ToolError


class Endpoint:
    """The MCP endpoint as an ASGI application. Both protocol eras are served at the same address."""

    def __init__(self, server: Server[Any], catalog: Catalog, *, max_body_bytes: int) -> None:
        self._catalog = catalog
        self._max_body_bytes = max_body_bytes
        self._modern = Modern(server, max_body_bytes)
        self._legacy = Legacy(server, max_body_bytes)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Keep the wire forms running."""
        async with self._modern.run(), self._legacy.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request = Request(scope, receive)
        try:
            _check_headers(request)
            body = await request.body()
            message = read_message(body)
        except Malformed as broken:
            await broken.response()(scope, receive, send)
            return
        except ClientDisconnect:
            return
        request.state.said = _said(message, request.state.caller)
        if message.method is None:  # an answer, though nothing was asked: taken in, as the protocol has it
            await Response(status_code=202)(scope, receive, send)
        elif (refusal := self._scope_refusal(message, request)) is not None:
            await refusal(scope, receive, send)
        else:
            form = self._modern if is_modern(scope) else self._legacy
            await form.handle(scope, _replayed(body, receive), send)

    def _scope_refusal(self, message: Message, request: Request) -> Response | None:
        """Return the step-up challenge where the credential lacks a scope: an HTTP 403, not an error inside."""
        caller: Caller = request.state.caller
        visible = caller.sees(self._catalog)
        lookups = {"tools/call": ("name", visible.tool), "prompts/get": ("name", visible.prompt)}
        lookups["resources/read"] = ("uri", visible.resource)  # type: ignore[assignment]
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


def _check_headers(request: Request) -> None:
    """Refuse what is no MCP request at all. Raises `Malformed`."""
    if request.method != "POST":
        raise Malformed(INVALID_REQUEST, "Send a POST: this server opens no stream of its own.", status=405)
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise Malformed(INVALID_REQUEST, "The Content-Type must be application/json.")
    if check_accept_headers(request) != (True, True):
        text = "The client must accept both application/json and text/event-stream."
        raise Malformed(INVALID_REQUEST, text, status=406)


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
