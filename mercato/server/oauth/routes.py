"""Every endpoint of the authorization server but the consent page, in one list."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from mercato.server.auth.challenge import RESOURCE_DOCUMENT
from mercato.server.oauth import metadata
from mercato.server.oauth.introspect import introspect
from mercato.server.oauth.register import register
from mercato.server.oauth.revoke import revoke
from mercato.server.oauth.token import token

_SERVER_DOCUMENT = "/.well-known/oauth-authorization-server"
_OPENID_DOCUMENT = "/.well-known/openid-configuration"


def oauth_routes() -> Sequence[BaseRoute]:
    """Return the routes. Clients look for a document at the root, and with the resource's path put in or before it."""
    return [
        Route(RESOURCE_DOCUMENT, metadata.protected_resource, methods=["GET"]),
        Route(RESOURCE_DOCUMENT + "/{path:path}", metadata.protected_resource, methods=["GET"]),
        Route(_SERVER_DOCUMENT, metadata.authorization_server, methods=["GET"]),
        Route(_SERVER_DOCUMENT + "/{path:path}", metadata.authorization_server, methods=["GET"]),
        Route(_OPENID_DOCUMENT, metadata.openid_configuration, methods=["GET"]),
        Route(_OPENID_DOCUMENT + "/{path:path}", metadata.openid_configuration, methods=["GET"]),
        Route("/mcp" + _OPENID_DOCUMENT, metadata.openid_configuration, methods=["GET"]),
        Route("/.well-known/jwks.json", metadata.public_keys, methods=["GET"]),
        Route("/manifest.json", metadata.manifest, methods=["GET"]),
        Route("/token", token, methods=["POST"]),
        Route("/register", register, methods=["POST"]),
        Route("/revoke", revoke, methods=["POST"]),
        Route("/introspect", introspect, methods=["POST"]),
    ]


def is_open_to_all(path: str) -> bool:
    """Whether a browser's page of any origin may call: what is public, or asks for a credential in the body."""
    return path.startswith(("/.well-known/", "/mcp/.well-known/")) or path in {
        "/manifest.json",
        "/token",
        "/register",
        "/revoke",
    }
