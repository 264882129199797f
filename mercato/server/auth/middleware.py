"""Authentication in front of the endpoint: a request goes on with its Caller, or is answered 401 here."""

from __future__ import annotations

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mercato.server.auth.directory import Directory

REALM = 'Bearer realm="mercato"'


class Authentication:
    """Puts the Caller into `scope["state"]["caller"]`, from `Authorization: Bearer` or `X-API-Key`."""

    def __init__(self, app: ASGIApp, directory: Directory) -> None:
        self._app = app
        self._directory = directory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a known caller through."""
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
            return
        credential = credential_of(Headers(scope=scope))
        caller = await self._directory.caller(credential) if credential else None
        if caller is None:
            await _refusal(given=credential is not None)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def credential_of(headers: Headers) -> str | None:
    """Return the credential that a request carries, from the one place that this may be."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None


def _refusal(*, given: bool) -> Response:
    if given:
        challenge, text = f'{REALM}, error="invalid_token"', "This key is unknown, revoked or expired."
    else:
        challenge, text = REALM, "A key is needed: send `Authorization: Bearer mck_…` or `X-API-Key: mck_…`."
    body = {"error": "invalid_token" if given else "unauthorized", "error_description": text}
    return Response(
        orjson.dumps(body), status_code=401, media_type="application/json", headers={"WWW-Authenticate": challenge}
    )
