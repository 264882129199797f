"""A right server: MCP and OAuth in memory. Its fields are the ways in which a test breaks it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mercato.server.doctor.authorize import challenge_of

API_KEY = "key-given-beforehand"
TOOLS = [
    {"name": "write_it", "annotations": {"readOnlyHint": False}, "inputSchema": {"type": "object"}},
    {"name": "read_one", "annotations": {"readOnlyHint": True}, "inputSchema": {"type": "object", "required": ["id"]}},
    {"name": "read_all", "annotations": {"readOnlyHint": True}, "inputSchema": {"type": "object"}},
]


class Clock:
    """Time that passes only when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeServer:
    """Set a field to break it; `in_front` is a proxy, which may answer instead of the server."""

    public_url: str = "https://mcp.example"
    issuer: str = "https://mcp.example"
    resource_document: dict[str, Any] = field(default_factory=dict)
    server_document: dict[str, Any] = field(default_factory=dict)
    """Changes to the documents; None removes."""
    in_front: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
    needs_credentials: bool = True
    challenge: str = 'Bearer resource_metadata="{place}", scope="tools:read"'
    requires_pkce: bool = True
    allows_plain: bool = False
    checks_redirects: bool = True
    checks_resource: bool = True
    sends_iss: bool = True
    sends_state: bool = True
    client_document_error: str = ""
    registered_method: str = "none"
    grace: bool = True
    codes_work_twice: bool = False
    token_answer: dict[str, Any] = field(default_factory=dict)
    eras: tuple[str, ...] = ("2026-07-28", "2025-11-25")
    tools: list[dict[str, Any]] = field(default_factory=lambda: list(TOOLS))

    clock: Clock = field(default_factory=Clock)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    spent_codes: dict[str, dict[str, str]] = field(default_factory=dict)
    access_tokens: set[str] = field(default_factory=lambda: {API_KEY})
    refresh_tokens: set[str] = field(default_factory=set)
    renewed: dict[str, dict[str, Any]] = field(default_factory=dict)
    redirect_uris: dict[str, str] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def client(self) -> httpx.AsyncClient:
        """Return an HTTP client whose every request arrives here."""
        return httpx.AsyncClient(transport=_Front(self))

    async def sign_in(self, url: str) -> None:
        """Do what a person does in a browser: open the page, consent, and be sent to the client's listener."""
        async with self.client() as browser:
            page = await browser.get(url)
            back = (
                page
                if page.has_redirect_location
                else await browser.post(f"{self.public_url}/consent", data={"request": page.text.split("|")[1]})
            )
        async with httpx.AsyncClient(trust_env=False) as browser:
            assert (await browser.get(back.headers["location"])).status_code == 200

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/mcp", self._mcp, methods=["POST", "DELETE"]),
                Route("/.well-known/oauth-protected-resource/mcp", self._resource),
                Route("/.well-known/oauth-protected-resource", self._resource),
                Route("/.well-known/oauth-authorization-server", self._server),
                Route("/.well-known/openid-configuration", self._server),
                Route("/jwks", _jwks),
                Route("/register", self._register, methods=["POST"]),
                Route("/authorize", self._authorize),
                Route("/consent", self._consent, methods=["POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/revoke", self._revoke, methods=["POST"]),
            ]
        )

    async def _resource(self, request: Request) -> Response:
        document = {
            "resource": f"{self.public_url}/mcp",
            "authorization_servers": [self.issuer],
            "scopes_supported": ["tools:read", "tools:write"],
        }
        return JSONResponse(_changed(document, self.resource_document))

    async def _server(self, request: Request) -> Response:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.public_url}/authorize",
            "token_endpoint": f"{self.public_url}/token",
            "registration_endpoint": f"{self.public_url}/register",
            "revocation_endpoint": f"{self.public_url}/revoke",
            "jwks_uri": f"{self.public_url}/jwks",
            "scopes_supported": ["tools:read", "tools:write", "offline_access"],
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
            "client_id_metadata_document_supported": True,
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(_changed(document, self.server_document))

    async def _register(self, request: Request) -> Response:
        given = await request.json()
        client_id = secrets.token_urlsafe(8)
        self.redirect_uris[client_id] = given["redirect_uris"][0]
        answer = {**given, "client_id": client_id, "token_endpoint_auth_method": self.registered_method}
        return JSONResponse(answer, status_code=201)

    async def _authorize(self, request: Request) -> Response:
        given = dict(request.query_params)
        if given["client_id"].startswith("https://"):
            if self.client_document_error:
                return HTMLResponse(f"<h1>{self.client_document_error}</h1>", status_code=400)
        elif given["client_id"] not in self.redirect_uris:
            return HTMLResponse("<h1>This client is unknown.</h1>", status_code=400)
        elif self.redirect_uris[given["client_id"]] != given["redirect_uri"]:
            if not self.checks_redirects:
                return self._back(given, {"error": "invalid_request"})
            return HTMLResponse("<h1>This redirect address is not registered.</h1>", status_code=400)
        error = self._refusal(given)
        if error:
            return self._back(given, {"error": error})
        number = secrets.token_urlsafe(8)
        self.codes[number] = given
        return HTMLResponse(f"<form>|{number}|</form>")

    def _refusal(self, given: dict[str, str]) -> str:
        if self.requires_pkce and "code_challenge" not in given:
            return "invalid_request"
        if not self.allows_plain and given.get("code_challenge_method", "S256") != "S256":
            return "invalid_request"
        wrong = self.checks_resource and given["resource"] != f"{self.public_url}/mcp"
        return "invalid_target" if wrong else ""

    def _back(self, given: dict[str, str], answer: dict[str, str]) -> Response:
        if self.sends_state:
            answer["state"] = given["state"]
        if self.sends_iss:
            answer["iss"] = self.issuer
        return RedirectResponse(f"{given['redirect_uri']}?{urlencode(answer)}", status_code=302)

    async def _consent(self, request: Request) -> Response:
        number = dict(parse_qsl((await request.body()).decode()))["request"]
        return self._back(self.codes[number], {"code": number})

    async def _token(self, request: Request) -> Response:
        given = dict(parse_qsl((await request.body()).decode()))
        if given["grant_type"] == "refresh_token":
            return self._renew(given["refresh_token"])
        codes = {**self.codes, **self.spent_codes} if self.codes_work_twice else self.codes
        asked = codes.get(given["code"])
        proven = asked is not None and asked["code_challenge"] == challenge_of(given["code_verifier"])
        if asked is None or not proven or asked["resource"] != given["resource"]:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        self.spent_codes[given["code"]] = asked
        self.codes.pop(given["code"], None)
        return JSONResponse(_changed(self._issue(), self.token_answer))

    def _renew(self, token: str) -> Response:
        if token in self.refresh_tokens:
            self.refresh_tokens.remove(token)
            self.renewed[token] = self._issue()
        elif token not in self.renewed or not self.grace:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        return JSONResponse(self.renewed[token])

    def _issue(self) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.access_tokens.add(access)
        self.refresh_tokens.add(refresh)
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": refresh,
            "scope": "tools:read",
        }

    async def _revoke(self, request: Request) -> Response:
        self.revoked.append(dict(parse_qsl((await request.body()).decode()))["token"])
        return Response(status_code=200)

    async def _mcp(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.needs_credentials and token not in self.access_tokens:
            place = f"{self.public_url}/.well-known/oauth-protected-resource/mcp"
            error = ', error="invalid_token"' if token else ""
            header = {"www-authenticate": self.challenge.format(place=place) + error} if self.challenge else {}
            return JSONResponse({"error": "unauthorized"}, status_code=401, headers=header)
        if request.method == "DELETE":
            self.called.append("DELETE")
            return Response(status_code=204)
        return self._answer(await request.json(), request.headers.get("mcp-session-id"))

    def _answer(self, message: dict[str, Any], session: str | None) -> Response:
        method = message["method"]
        modern = "_meta" in message.get("params", {})
        self.called.append(method)
        if "id" not in message:
            return Response(status_code=202)
        if ("2026-07-28" if modern else "2025-11-25") not in self.eras:
            return _error(-32022, 400)
        if not modern and method != "initialize" and session != "session-1":
            return _error(-32600, 404)
        results: dict[str, dict[str, Any]] = {
            "server/discover": {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}},
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "fake"}},
            "tools/list": {"tools": self.tools},
            "tools/call": {"content": [], "structuredContent": {}, "isError": False},
        }
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": results[method]}
        if modern:
            return JSONResponse(answer)
        events = f"id: 1\r\ndata: \r\n\r\nevent: message\r\ndata: {json.dumps(answer)}\r\n\r\n"
        return Response(events, media_type="text/event-stream", headers={"mcp-session-id": "session-1"})


class _Front(httpx.AsyncBaseTransport):
    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._app = httpx.ASGITransport(server.app())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._server.seen.append(f"{request.method} {request.url}")
        answered = self._server.in_front(request)
        return answered if answered is not None else await self._app.handle_async_request(request)


def _changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**document, **changes}.items() if value is not None}


def _error(code: int, status: int) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}}, status_code=status)


async def _jwks(request: Request) -> Response:
    return JSONResponse({"keys": []})
