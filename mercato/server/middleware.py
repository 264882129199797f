"""What every HTTP request passes: an id and a log line, the body limit, the Host and Origin check, CORS."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mercato.server.logs import AccessLog
from mercato.server.mcp.messages import error_response
from mercato.server.site import is_endpoint

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{8,64}")
log = structlog.stdlib.get_logger(__name__)

_PROCESS, _NUMBERS = secrets.token_hex(4), itertools.count(secrets.randbelow(2**24))
"""What new ids are made of: they must differ between processes, and need not be hard to guess."""
_PROBES = frozenset({"/healthz", "/readyz"})
_PARAMETER_HEADER = re.compile(r"mcp-param-[\w-]{1,64}", re.IGNORECASE)
_CORS_METHODS = "GET, POST, DELETE, OPTIONS"
_CORS_REQUEST_HEADERS = (
    "authorization, content-type, accept, x-api-key, x-request-id, last-event-id, mcp-session-id, "
    "mcp-protocol-version, mcp-method, mcp-name"
)
_CORS_RESPONSE_HEADERS = "mcp-session-id, www-authenticate, x-request-id"


def request_id_of(given: bytes | None) -> str:
    """Return the id of a request: the one that its sender gave, if it has the form of one, or a new one."""
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else f"{_PROCESS}{next(_NUMBERS):08x}"


class RequestLog:
    """Gives each request an id, which its answer carries as `X-Request-Id`, and logs one line when it is answered."""

    def __init__(self, app: ASGIApp, log: AccessLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(dict(reversed(scope["headers"])).get(b"x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, send_with_id)
        except Exception as error:  # the edge of a request: what nobody foresaw
            log.error("request failed", request_id=request_id, exc_info=error)
            if status == 0:
                text = f"Internal error. Reference: {request_id}."
                await error_response(500, -32603, text)(scope, receive, send_with_id)
        finally:
            seconds, said = time.perf_counter() - began, scope["state"].get("said", {})
            self._log(scope["method"], scope["path"], said, status, seconds, request_id)


class BodyLimit:
    """Refuses a body that is too long with 413, by its declared length at once, else while it comes in."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        taken, refused, started = 0, False, False

        async def counted() -> Message:
            nonlocal taken, refused
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                refused = True
                return {"type": "http.disconnect"}
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal started
            if not refused:
                started = started or message["type"] == "http.response.start"
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)
        except Exception:
            if not refused:  # the application only learned that its client is gone
                raise
        if refused and not started:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        text = f"The body is longer than {self._max_bytes:,} bytes."
        await refusal(scope["path"], 413, text)(scope, receive, send)


class KnownHosts:
    """The Host headers under which this server is known: those of its settings, and loopback on any port."""

    def __init__(self, public_url: str | None, hosts: Iterable[str]) -> None:
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        if public_url:
            self._hosts.add(urlsplit(public_url).netloc.lower())

    def __contains__(self, host: str) -> bool:
        host = host.lower()
        return host in self._hosts or _without_port(host) in self._hosts


class HostCheck:
    """Refuses a foreign Host with 421 and a foreign Origin with 403, and answers CORS for the origins allowed.

    Against DNS rebinding: a page that a browser was tricked into loading from our address has another Host. Health
    probes are let through: they name whatever address they reached. What is `open_to_all` any origin may call.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        public_url: str | None,
        hosts: Iterable[str],
        origins: Iterable[str],
        open_to_all: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._app = app
        self._open_to_all = open_to_all
        self._hosts = KnownHosts(public_url, hosts)
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        if public_url:
            parts = urlsplit(public_url)
            self._origins.add(f"{parts.scheme}://{parts.netloc}".lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            text = "This server is not known under that Host: set MERCATO_PUBLIC_URL or MERCATO_ALLOWED_HOSTS."
            await refusal(scope["path"], 421, text)(scope, receive, send)
        elif self._open_to_all(scope["path"]):  # also without an Origin: caches in between keep one answer for all
            await self._answer(scope, receive, send, "*")
        elif origin is not None and not self._known_origin(origin.lower()):
            text = "This Origin may not call: set MERCATO_ALLOWED_ORIGINS."
            await refusal(scope["path"], 403, text)(scope, receive, send)
        elif origin is not None:
            await self._answer(scope, receive, send, origin)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, origin: str) -> None:
        """Answer a browser's page, of one origin or (`*`, without its cookies) of any."""
        if scope["method"] == "OPTIONS":
            wanted = Headers(scope=scope).get("access-control-request-headers", "")
            await _preflight(origin, wanted, send)
        else:
            await self._app(scope, receive, _with_cors(send, origin))

    def _known_origin(self, origin: str) -> bool:
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and _without_port(parts.netloc) in LOOPBACK


def _without_port(netloc: str) -> str:
    return netloc.rpartition(":")[0] if re.search(r":\d+$", netloc) else netloc


def _cors(origin: str) -> dict[str, str]:
    return {"access-control-allow-origin": origin, **({} if origin == "*" else {"vary": "Origin"})}


def refusal(path: str, status: int, text: str) -> Response:
    """Return a refusal in the form that callers of this address read: JSON-RPC at the endpoint, OAuth's elsewhere."""
    if is_endpoint(path):
        return error_response(status, -32600, text)
    return JSONResponse({"error": "invalid_request", "error_description": text}, status_code=status)


async def _preflight(origin: str, wanted: str, send: Send) -> None:
    # A tool's parameters may travel as headers of their own, `Mcp-Param-…`, which cannot be listed beforehand.
    parameters = [name.strip().lower() for name in wanted.split(",") if _PARAMETER_HEADER.fullmatch(name.strip())]
    headers = _cors(origin) | {
        "access-control-allow-methods": _CORS_METHODS,
        "access-control-allow-headers": ", ".join([_CORS_REQUEST_HEADERS, *parameters]),
        "access-control-max-age": "600",
    }
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})


def _with_cors(send: Send, origin: str) -> Send:
    async def send_with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _cors(origin).items():
                headers[name] = value
            headers["access-control-expose-headers"] = _CORS_RESPONSE_HEADERS
        await send(message)

    return send_with_cors
