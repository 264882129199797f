"""POST /introspect: another resource server of ours asks what a token is good for (RFC 7662)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mercato.server.oauth.endpoint import oauth_endpoint
from mercato.server.oauth.errors import ClientRefused, OAuthError, json_response
from mercato.server.oauth.forms import form
from mercato.server.runtime import Runtime
from mercato.tenancy.client_grants import authenticate_grant


@oauth_endpoint
async def introspect(runtime: Runtime, request: Request) -> Response:
    """Say what an access token is good for now; only to clients that the operator made for this."""
    given = await form(request)
    client = await runtime.oauth.authentication.client(request, given)
    if not client.introspects:
        raise ClientRefused("This client may not introspect: the operator makes one with --introspects.")
    if "token" not in given:
        raise OAuthError("invalid_request", "The parameter token is missing.")
    claims = await runtime.oauth.access_tokens.read(given["token"])
    principal = claims and await authenticate_grant(runtime.database, claims.grant_id, claims.scopes, claims.expires_at)
    if claims is None or principal is None:
        return json_response({"active": False})
    return json_response(
        {
            "active": True,
            "iss": runtime.site.issuer,
            "sub": str(principal.user_id),
            "aud": claims.audience,
            "client_id": principal.client_id,
            "scope": " ".join(sorted(principal.scopes)),
            "tenant": str(principal.tenant_id),
            "token_type": "Bearer",
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
            "jti": claims.token_id,
        }
    )
