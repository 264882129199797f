"""Authentication in front of the endpoint: a request goes on with its Caller, or is answered 401 here."""

from __future__ import annotations

from functools import partial

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mercato.server.auth.challenge import Challenges
from mercato.server.auth.credentials import ForeignKey, credential_of
from mercato.server.auth.directory import Directory
from mercato.server.site import MCP_PATH, MESSAGES_PATH, SSE_PATH, Site, reach_of
from mercato.server.web.cookies import Cookies
from mercato.tenancy.database import is_outage

log = structlog.stdlib.get_logger(__name__)


class Authentication:
    """Puts the Caller into `scope["state"]`, from a bearer token, an API key, or the session of our own pages."""

    def __init__(
        self, app: ASGIApp, directory: Directory, challenges: Challenges, cookies: Cookies, site: Site
    ) -> None:
        self._app = app
        self._directory = directory
        self._challenges = challenges
        self._cookies = cookies
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a known caller through."""
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        path = scope["path"].rstrip("/") or MCP_PATH
        if path in (SSE_PATH, MESSAGES_PATH):
            path = MCP_PATH  # the same resource in an older form
        reach = reach_of(path, self._challenges.categories)
        if reach is None:
            await _json(404, "not_found", "There is no such address: see /manifest.json.")(scope, receive, send)
            return
        try:
            credential = credential_of(request, self._cookies, self._site)
            caller = await self._directory.caller(credential, path, reach) if credential else None
        except ForeignKey:
            text = "A browser's page may not send an API key: sign in with OAuth instead."
            await _json(403, "invalid_request", text)(scope, receive, send)
            return
        except Exception as error:  # an outage has many types, of the driver, the pool and the socket
            if not is_outage(error):
                raise
            log.warning("the database does not answer", error=type(error).__name__)
            await _unavailable()(scope, receive, send)
            return
        challenge = self._challenges.at(request, path, reach)
        if caller is None or credential is None:
            await _refusal(challenge.unauthorized(given=credential is not None), given=credential is not None)(
                scope, receive, send
            )
            return
        state = scope.setdefault("state", {})
        state["caller"], state["challenge"] = caller, challenge
        state["look_again"] = partial(self._directory.caller, credential, path, reach)
        await self._app(scope, receive, send)


def _unavailable() -> Response:
    response = _json(503, "temporarily_unavailable", "The database does not answer at the moment.")
    response.headers["Retry-After"] = "2"
    return response


def _refusal(challenge: str, *, given: bool) -> Response:
    if given:
        response = _json(
            401, "invalid_token", "This key or token is unknown, revoked, expired, or for another address."
        )
    else:
        text = "Sign in is needed: connect with OAuth, or send `Authorization: Bearer mck_…`."
        response = _json(401, "unauthorized", text)
    response.headers["WWW-Authenticate"] = challenge
    return response


def _json(status: int, code: str, text: str) -> Response:
    body = orjson.dumps({"error": code, "error_description": text})
    return Response(body, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"})
