"""Access tokens: JWTs of RFC 9068, bound to one resource, one tenant and one grant. An hour long."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import extract_compact

from mercato.server.oauth.signing import ALGORITHM, SigningKeys
from mercato.server.site import Site
from mercato.tenancy.client_grants import Granted

LIFE_S = 3_600
_TYPES = {"at+jwt", "application/at+jwt"}
_LONGEST = 8_192


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token of ours says. Whether its grant still stands, the database says."""

    audience: str
    grant_id: int
    tenant_id: int
    user_id: int
    client_id: str
    scopes: frozenset[str]
    issued_at: datetime
    expires_at: datetime
    token_id: str


class AccessTokens:
    """Makes access tokens, and reads them."""

    def __init__(self, keys: SigningKeys, site: Site) -> None:
        self._keys = keys
        self._site = site

    def mint(self, key: RSAKey, granted: Granted, scopes: Sequence[str], audience: str) -> str:
        """Return a token of a grant for a resource.

        The key is handed in, so that this waits for nothing: a row may be locked meanwhile.
        """
        now = int(time.time())
        claims = {
            "iss": self._site.issuer,
            "sub": str(granted.user_id),
            "aud": audience,
            "client_id": granted.client_id,
            "scope": " ".join(scopes),
            "tenant": str(granted.tenant_id),
            "grant": str(granted.id),
            "iat": now,
            "exp": now + LIFE_S,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": key.kid}, claims, key)

    async def read(self, text: str) -> Claims | None:
        """Return what a token says; None where it is not ours, was changed, or has expired."""
        if len(text) > _LONGEST or not text.isascii():
            return None
        try:
            kid = _kid_of(text)
            keys = await self._keys.verifying(kid) if kid else None
            if keys is None:
                return None
            token = jwt.decode(text, keys, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            return None
        if str(token.header.get("typ", "")).lower() not in _TYPES or token.claims.get("iss") != self._site.issuer:
            return None
        claims = _claims_of(token.claims)
        return claims if claims is not None and claims.expires_at > datetime.now(UTC) else None


def _kid_of(text: str) -> str | None:
    kid = extract_compact(text.encode()).headers().get("kid")
    return kid if isinstance(kid, str) else None


def _claims_of(claims: dict[str, Any]) -> Claims | None:
    try:
        return Claims(
            audience=str(claims["aud"]),
            grant_id=int(claims["grant"]),
            tenant_id=int(claims["tenant"]),
            user_id=int(claims["sub"]),
            client_id=str(claims["client_id"]),
            scopes=frozenset(str(claims["scope"]).split()),
            issued_at=datetime.fromtimestamp(claims["iat"], UTC),
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            token_id=str(claims["jti"]),
        )
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
