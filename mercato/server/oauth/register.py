"""POST /register: a client makes itself known (RFC 7591). For those that cannot be described by a document yet."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mercato.server.oauth.endpoint import oauth_endpoint
from mercato.server.oauth.errors import OAuthError, json_response
from mercato.server.oauth.registration import GRANT_TYPES, client_of
from mercato.server.runtime import Runtime
from mercato.tenancy.clients import OAuthClient, add_client
from mercato.tenancy.signing import digest

_MOST_BYTES = 8 * 1024


@oauth_endpoint
async def register(runtime: Runtime, request: Request) -> Response:
    """Register a client. Those that nobody allows anything within a day are forgotten again."""
    client, secret = new_client(await _metadata(request), runtime.oauth.schemes)
    await add_client(runtime.database, client)
    return json_response(_information(client, secret), 201)


def new_client(metadata: Mapping[str, Any], schemes: Collection[str]) -> tuple[OAuthClient, str | None]:
    """Return a client of this metadata with an id of its own, and its secret if it is to have one.

    Raises `OAuthError`.
    """
    client = client_of(metadata, schemes)
    client.client_id = f"mcc_{secrets.token_urlsafe(16)}"
    if client.auth_method not in {"client_secret_basic", "client_secret_post"}:
        return client, None
    secret = f"mcs_{secrets.token_urlsafe(32)}"
    client.secret_digest = digest(secret)
    return client, secret


async def _metadata(request: Request) -> dict[str, Any]:
    body = await request.body()
    if len(body) > _MOST_BYTES:
        raise OAuthError("invalid_client_metadata", f"The metadata may have {_MOST_BYTES:,} bytes at most.")
    try:
        metadata = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise OAuthError("invalid_client_metadata", "The body is not JSON.") from None
    if not isinstance(metadata, dict):
        raise OAuthError("invalid_client_metadata", "The body must be a JSON object.")
    return metadata


def _information(client: OAuthClient, secret: str | None) -> dict[str, Any]:
    """Return the client as it was taken (RFC 7591, 3.2.1)."""
    known = {
        "client_id": client.client_id,
        "client_id_issued_at": int(client.created_at.timestamp()),
        "client_secret": secret,
        "client_secret_expires_at": 0 if secret else None,
        "client_name": client.name,
        "client_uri": client.home,
        "redirect_uris": client.redirect_uris,
        "token_endpoint_auth_method": client.auth_method,
        "grant_types": list(GRANT_TYPES),
        "response_types": ["code"],
        "jwks": client.jwks,
        "jwks_uri": client.jwks_uri,
    }
    return {name: value for name, value in known.items() if value is not None}
