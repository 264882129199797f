"""The parts of the authorization server, put together once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mercato.server.oauth.client_authentication import ClientAuthentication
from mercato.server.oauth.clients import Clients
from mercato.server.oauth.documents import ClientDocuments
from mercato.server.oauth.outside import Outside
from mercato.server.oauth.signing import SigningKeys
from mercato.server.oauth.tokens import AccessTokens
from mercato.server.site import Site
from mercato.tenancy.client_grants import RefreshTokens
from mercato.tenancy.database import Database
from mercato.tenancy.secrets import KeyRing


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """What the endpoints work with. `categories` are the names of those that are loaded."""

    site: Site
    categories: tuple[str, ...]
    schemes: frozenset[str]
    keys: SigningKeys
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens
    clients: Clients
    authentication: ClientAuthentication


def authorization_server(
    database: Database,
    ring: KeyRing,
    site: Site,
    outside: Outside,
    categories: Iterable[str],
    schemes: Collection[str],
) -> AuthorizationServer:
    """Return the parts, wired."""
    keys = SigningKeys(database, ring)
    clients = Clients(database, ClientDocuments(database, outside, frozenset(schemes)))
    return AuthorizationServer(
        site=site,
        categories=tuple(sorted(categories)),
        schemes=frozenset(schemes),
        keys=keys,
        access_tokens=AccessTokens(keys, site),
        refresh_tokens=RefreshTokens(database, ring),
        clients=clients,
        authentication=ClientAuthentication(database, clients, outside, site),
    )
