"""POST /revoke: a client gives back what it was allowed (RFC 7009). Either token ends the whole of it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mercato.server.oauth.endings import grant_ended
from mercato.server.oauth.endpoint import oauth_endpoint
from mercato.server.oauth.errors import OAuthError
from mercato.server.oauth.forms import form
from mercato.server.runtime import Runtime
from mercato.tenancy.client_grants import end_grant


@oauth_endpoint
async def revoke(runtime: Runtime, request: Request) -> Response:
    """End a grant. A token that is none of the client's is answered alike: there is nothing to end."""
    given = await form(request)
    client = await runtime.oauth.authentication.client(request, given)
    if "token" not in given:
        raise OAuthError("invalid_request", "The parameter token is missing.")
    grant_id = await _grant_of(runtime, given["token"])
    if grant_id is not None:
        because = "the client gave it back"
        tenant_id = await end_grant(runtime.database, grant_id, client.client_id, because)
        if tenant_id is not None:
            await grant_ended(runtime, request, tenant_id, client.client_id, because)
    return Response(status_code=200, headers={"Cache-Control": "no-store"})


async def _grant_of(runtime: Runtime, token: str) -> int | None:
    grant_id = runtime.oauth.refresh_tokens.grant_id_of(token)
    if grant_id is not None:
        return grant_id
    claims = await runtime.oauth.access_tokens.read(token)
    return None if claims is None else claims.grant_id
