"""What clients read before anything else: the resource's document, the authorization server's, keys, a manifest."""

from __future__ import annotations

from typing import Any

from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mercato.server.auth.challenge import RESOURCE_DOCUMENT
from mercato.server.mcp.versions import PROTOCOL_VERSIONS
from mercato.server.oauth.client_authentication import ALGORITHMS
from mercato.server.oauth.endpoint import oauth_endpoint
from mercato.server.oauth.errors import json_response
from mercato.server.oauth.registration import AUTH_METHODS, GRANT_TYPES
from mercato.server.oauth.scopes import OFFLINE, offered
from mercato.server.oauth.server import AuthorizationServer
from mercato.server.oauth.signing import ALGORITHM
from mercato.server.runtime import VERSION, Runtime
from mercato.server.site import MCP_PATH, is_endpoint, reach_of
from mercato.tenancy.reach import EVERYTHING

_KEEP_S = 300


@oauth_endpoint
async def protected_resource(runtime: Runtime, request: Request) -> Response:
    """Answer RFC 9728 for `/mcp` and each address below it; without a path, for `/mcp`."""
    path = "/" + request.path_params.get("path", "mcp").rstrip("/")
    reach = reach_of(path, runtime.oauth.categories) if is_endpoint(path) else None
    if reach is None:
        raise HTTPException(404)
    document = ProtectedResourceMetadata.model_validate(
        {
            "resource": f"{runtime.site.base(request.headers.get('host', ''))}{path}",
            "authorization_servers": [runtime.site.issuer],
            "scopes_supported": offered(runtime.oauth.categories, reach),
            "bearer_methods_supported": ["header"],
            "resource_name": "mercato",
        }
    )
    return json_response(document.model_dump(mode="json", exclude_none=True), keep_s=_KEEP_S)


@oauth_endpoint
async def authorization_server(runtime: Runtime, request: Request) -> Response:
    """Answer RFC 8414, wherever a client looks for it."""
    return json_response(_metadata(runtime.oauth), keep_s=_KEEP_S)


@oauth_endpoint
async def openid_configuration(runtime: Runtime, request: Request) -> Response:
    """Answer those that look for OpenID's document instead: the same, and what its readers insist on."""
    document = _metadata(runtime.oauth) | {
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
    }
    return json_response(document, keep_s=_KEEP_S)


@oauth_endpoint
async def public_keys(runtime: Runtime, request: Request) -> Response:
    """Answer the public halves of the keys that sign."""
    return json_response({"keys": await runtime.oauth.keys.public()}, keep_s=_KEEP_S)


@oauth_endpoint
async def manifest(runtime: Runtime, request: Request) -> Response:
    """Say what this server is and offers, for whoever wonders whether to connect."""
    site = runtime.site
    categories = sorted(runtime.catalog.categories.values(), key=lambda category: category.name)
    document = {
        "name": "mercato",
        "description": "An MCP server for commerce: assistants act for one tenant at a time.",
        "version": VERSION,
        "mcp": {"url": site.url(MCP_PATH), "protocol_versions": list(PROTOCOL_VERSIONS)},
        "oauth": {
            "issuer": site.issuer,
            "metadata": site.url("/.well-known/oauth-authorization-server"),
            "resource_metadata": site.url(f"{RESOURCE_DOCUMENT}{MCP_PATH}"),
            "scopes": offered(runtime.oauth.categories, EVERYTHING),
        },
        "categories": [
            {"name": category.name, "description": category.description, "tools": len(category.tools)}
            for category in categories
        ],
    }
    return json_response(document, keep_s=_KEEP_S)


def _metadata(oauth: AuthorizationServer) -> dict[str, Any]:
    url = oauth.site.url
    known = {
        "issuer": oauth.site.issuer,
        "authorization_endpoint": url("/authorize"),
        "token_endpoint": url("/token"),
        "registration_endpoint": url("/register"),
        "revocation_endpoint": url("/revoke"),
        "introspection_endpoint": url("/introspect"),
        "scopes_supported": [*offered(oauth.categories, EVERYTHING), OFFLINE],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "introspection_endpoint_auth_methods_supported": [method for method in AUTH_METHODS if method != "none"],
        "client_id_metadata_document_supported": True,
        "authorization_response_iss_parameter_supported": True,
    }
    document: dict[str, Any] = OAuthMetadata.model_validate(known).model_dump(mode="json", exclude_none=True)
    return document | {"jwks_uri": url("/.well-known/jwks.json"), "protected_resources": [url(MCP_PATH)]}
