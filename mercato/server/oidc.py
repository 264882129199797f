"""Signing in at an OpenID provider: its discovery, a request with PKCE and a nonce, and a verified answer."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx2
import structlog
from authlib.integrations.base_client import OAuthError as ClientError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from mercato.server.settings import OidcSettings

log = structlog.stdlib.get_logger(__name__)

CALLBACK = "/sign-in/oidc/callback"
_SCOPE = "openid email profile"
_ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
_TIMEOUT_S = 10
_SKEW_S = 60
_KEPT_S = 3_600


class OidcFailed(Exception):
    """The provider did not answer as it must; the text is for the log, with nothing secret in it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What ties an answer to the request: kept in the person's browser, sealed."""

    state: str
    nonce: str
    verifier: str
    following: str
    invitation: str

    def plain(self) -> dict[str, str]:
        """Return it as JSON has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Known:
    """Who the provider says is there. `email` is None where it does not say that the address is verified."""

    issuer: str
    subject: str
    email: str | None
    name: str


def new_attempt(following: str, invitation: str) -> Attempt:
    """Return a fresh one."""
    return Attempt(
        secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), following, invitation
    )


class OidcProvider:
    """The one provider of a deployment. Authlib speaks OAuth with it, joserfc verifies what it signed."""

    def __init__(
        self, settings: OidcSettings, redirect_uri: str, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._transport = transport
        self._metadata: tuple[float, dict[str, Any]] | None = None

    async def address(self, attempt: Attempt) -> str:
        """Return where the person signs in. Raises `OidcFailed`."""
        metadata = await self._discover()
        async with self._client() as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
            )
        return str(url)

    async def known(self, attempt: Attempt, code: str) -> Known:
        """Return who has signed in. Raises `OidcFailed`."""
        metadata = await self._discover()
        keys = await self._read(metadata["jwks_uri"])
        try:
            async with self._client() as client:
                token = await client.fetch_token(
                    metadata["token_endpoint"],
                    code=code,
                    code_verifier=attempt.verifier,
                    grant_type="authorization_code",
                )
                claims = self._verified(token.get("id_token"), keys, metadata["issuer"], attempt.nonce)
                if "email" not in claims and "userinfo_endpoint" in metadata:
                    claims |= await self._userinfo(client, metadata["userinfo_endpoint"], claims["sub"])
        except (httpx2.HTTPError, ClientError, ValueError, KeyError) as error:
            raise OidcFailed(f"{type(error).__name__} at the provider") from None
        return _known(claims)

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self._settings.client_id,
            self._settings.client_secret,
            scope=_SCOPE,
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            transport=self._transport,
            timeout=_TIMEOUT_S,
        )

    async def _discover(self) -> dict[str, Any]:
        if self._metadata is not None and time.monotonic() - self._metadata[0] < _KEPT_S:
            return self._metadata[1]
        metadata = await self._read(self._settings.discovery_url)
        for name in ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(metadata.get(name), str):
                raise OidcFailed(f"the provider's document has no {name}")
        self._metadata = (time.monotonic(), metadata)
        return metadata

    async def _read(self, url: str) -> dict[str, Any]:
        try:
            async with httpx2.AsyncClient(transport=self._transport, timeout=_TIMEOUT_S) as http:
                response = await http.get(url)
                response.raise_for_status()
                found = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise OidcFailed(f"{url} cannot be read: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise OidcFailed(f"{url} is no JSON object")
        return found

    def _verified(self, id_token: Any, jwks: Any, issuer: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an id token (OpenID Connect Core, 3.1.3.7). Raises `OidcFailed`."""
        try:
            usable = [key for key in jwks["keys"] if key.get("kty") in ("RSA", "EC", "OKP")]
            keys = KeySet.import_key_set({"keys": usable})
            claims = jwt.decode(str(id_token), keys, algorithms=list(_ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise OidcFailed("the id token's signature is not good") from None
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        party = claims.get("azp", self._settings.client_id)
        expires = claims.get("exp")
        fits = (
            claims.get("iss") == issuer
            and self._settings.client_id in audiences
            and party == self._settings.client_id
            and isinstance(expires, int | float)
            and expires > time.time() - _SKEW_S
            and secrets.compare_digest(str(claims.get("nonce")), nonce)
            and isinstance(claims.get("sub"), str)
        )
        if not fits:
            raise OidcFailed("the id token is not for us, too old, or answers another request")
        return dict(claims)

    async def _userinfo(self, client: AsyncOAuth2Client, url: str, subject: str) -> dict[str, Any]:
        response = await client.get(url)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found if found.get("sub") == subject else {}


def _known(claims: dict[str, Any]) -> Known:
    email = claims.get("email") if claims.get("email_verified") is True else None
    name = claims.get("name")
    shown = name if isinstance(name, str) and name.strip() else str(email or "").partition("@")[0]
    return Known(claims["iss"], claims["sub"], str(email) if email else None, shown or "Somebody")
