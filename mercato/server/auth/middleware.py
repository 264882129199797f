"""Authentication in front of the endpoint: a request goes on with its Caller, or is answered 401 here."""

from __future__ import annotations

from functools import partial

import orjson
import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mercato.server.auth.directory import Directory
from mercato.tenancy.database import is_outage

log = structlog.stdlib.get_logger(__name__)

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
        try:
            caller = await self._directory.caller(credential) if credential else None
        except Exception as error:  # an outage has many types, of the driver, the pool and the socket
            if not is_outage(error):
                raise
            log.warning("the database does not answer", error=type(error).__name__)
            await _unavailable()(scope, receive, send)
            return
        if caller is None:
            await _refusal(given=credential is not None)(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["caller"] = caller
        state["look_again"] = partial(self._directory.caller, credential or "")
        await self._app(scope, receive, send)


def credential_of(headers: Headers) -> str | None:
    """Return the credential that a request carries, from the one place that this may be."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None


def _unavailable() -> Response:
    body = {"error": "temporarily_unavailable", "error_description": "The database does not answer at the moment."}
    headers = {"Retry-After": "2"}
    return Response(orjson.dumps(body), status_code=503, media_type="application/json", headers=headers)


def _refusal(*, given: bool) -> Response:
    if given:
        challenge, text = f'{REALM}, error="invalid_token"', "This key is unknown, revoked or expired."
    else:
        challenge, text = REALM, "A key is needed: send `Authorization: Bearer mck_…` or `X-API-Key: mck_…`."
    body = {"error": "invalid_token" if given else "unauthorized", "error_description": text}
    return Response(
        orjson.dumps(body), status_code=401, media_type="application/json", headers={"WWW-Authenticate": challenge}
    )
