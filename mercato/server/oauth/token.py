"""POST /token: a code for tokens (RFC 6749, 4.1.3), a refresh token for the next (6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import orjson
import structlog
from joserfc.jwk import RSAKey
from starlette.requests import Request
from starlette.responses import Response

from mercato.server.oauth.endings import grant_ended
from mercato.server.oauth.endpoint import oauth_endpoint
from mercato.server.oauth.errors import OAuthError
from mercato.server.oauth.forms import form
from mercato.server.oauth.scopes import check_length, narrowed
from mercato.server.oauth.server import AuthorizationServer
from mercato.server.oauth.tokens import LIFE_S
from mercato.server.runtime import Runtime
from mercato.tenancy.client_grants import Granted, Refused, WrongResource
from mercato.tenancy.clients import OAuthClient
from mercato.tenancy.codes import Redemption, redeem_code

log = structlog.stdlib.get_logger(__name__)

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff"}


@oauth_endpoint
async def token(runtime: Runtime, request: Request) -> Response:
    """Give tokens."""
    given = await form(request)
    client = await runtime.oauth.authentication.client(request, given)
    exchanges = {"authorization_code": _by_code, "refresh_token": _by_refresh}
    exchange = exchanges.get(grant_type := _required(given, "grant_type"))
    if exchange is None:
        raise OAuthError("unsupported_grant_type", f"There is {' and '.join(exchanges)} only.")
    try:
        body = await exchange(runtime, client, given)
    except WrongResource as refusal:
        raise OAuthError("invalid_target", str(refusal)) from None
    except Refused as refusal:
        if refusal.ended is not None:
            log.warning("access ended", client_id=client.client_id, tenant_id=refusal.ended, because=str(refusal))
            await grant_ended(runtime, request, refusal.ended, client.client_id, str(refusal))
        raise OAuthError("invalid_grant", str(refusal)) from None
    request.state.said = {"grant_type": grant_type}
    return Response(body, media_type="application/json", headers=_NOT_KEPT)


async def _by_code(runtime: Runtime, client: OAuthClient, given: Mapping[str, str]) -> bytes:
    oauth = runtime.oauth
    verifier = _required(given, "code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise OAuthError("invalid_grant", "A code_verifier has 43 to 128 unreserved characters (RFC 7636, 4.1).")
    resource = given.get("resource")
    shown = Redemption(
        code=_required(given, "code"),
        client_id=client.client_id,
        verifier=verifier,
        redirect_uri=given.get("redirect_uri"),
        is_for=lambda allowed: _audience(oauth, resource, allowed) is not None,
    )
    key = await oauth.keys.signing()
    granted, refresh_token = await redeem_code(runtime.database, oauth.refresh_tokens, shown)
    return _answer(oauth, key, granted, refresh_token, granted.scopes, resource)


async def _by_refresh(runtime: Runtime, client: OAuthClient, given: Mapping[str, str]) -> bytes:
    oauth = runtime.oauth
    scope = check_length(given.get("scope", ""))
    key = await oauth.keys.signing()  # before a row is locked

    def answer(granted: Granted, following: str) -> bytes:
        scopes = narrowed(scope, granted.scopes)
        return _answer(oauth, key, granted, following, scopes, given.get("resource"))

    return await oauth.refresh_tokens.rotate(_required(given, "refresh_token"), client.client_id, answer)


def _answer(
    oauth: AuthorizationServer,
    key: RSAKey,
    granted: Granted,
    refresh_token: str,
    scopes: Sequence[str],
    resource: str | None,
) -> bytes:
    if oauth.site.path_of(granted.resource) is None:
        raise Refused("This server has another address now: connect to it anew.")
    audience = _audience(oauth, resource, granted.resource)
    if audience is None:
        raise WrongResource("The resource is not the one that was allowed.")
    body = {
        "access_token": oauth.access_tokens.mint(key, granted, scopes, audience),
        "token_type": "Bearer",
        "expires_in": LIFE_S,
        "refresh_token": refresh_token,
        "scope": " ".join(scopes),
    }
    return orjson.dumps(body)


def _audience(oauth: AuthorizationServer, resource: str | None, allowed: str) -> str | None:
    """Return what a token is for: what was allowed, or a part of it that is asked for; None for anything else."""
    if resource is None:
        return allowed
    path = oauth.site.path_of(resource)
    return oauth.site.canonical(resource) if path is not None and oauth.site.covers(allowed, path) else None


def _required(given: Mapping[str, str], name: str) -> str:
    if name not in given:
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    return given[name]
