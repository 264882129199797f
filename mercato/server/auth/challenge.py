"""Challenges: what `WWW-Authenticate` tells a client to do next (RFC 6750, RFC 9728)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request

from mercato.server.oauth.scopes import asked_for
from mercato.server.site import Site
from mercato.tenancy.principal import Principal
from mercato.tenancy.reach import Reach

RESOURCE_DOCUMENT = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class Challenge:
    """The challenges of one address."""

    resource_metadata: str
    scope: str

    def unauthorized(self, *, given: bool) -> str:
        """Return the challenge of a 401: sign in, or sign in anew."""
        error = 'error="invalid_token", ' if given else ""
        return f'Bearer realm="mercato", {error}resource_metadata="{self.resource_metadata}", scope="{self.scope}"'

    def insufficient(self, scope: str) -> str:
        """Return the challenge of a 403: the same, with more scopes."""
        return (
            f'Bearer realm="mercato", error="insufficient_scope", scope="{scope}", '
            f'resource_metadata="{self.resource_metadata}"'
        )


class Challenges:
    """Makes challenges. `categories` are the names of those that are loaded."""

    def __init__(self, site: Site, categories: Iterable[str]) -> None:
        self._site = site
        self.categories = frozenset(categories)

    def at(self, request: Request, path: str, reach: Reach) -> Challenge:
        """Return the challenge of an address, under the name by which it was called."""
        base = self._site.base(request.headers.get("host", ""))
        return Challenge(f"{base}{RESOURCE_DOCUMENT}{path}", asked_for(reach))


def needed_scope(principal: Principal, missing: str) -> str:
    """Return every scope that a client should ask for: what it has, and what it lacks."""
    return " ".join(sorted({*principal.scopes - {"*"}, missing}))
