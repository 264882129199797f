"""How a client proves that it is who it says, at the endpoints that it calls itself."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import orjson
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.requests import Request

from mercato.server.oauth.clients import Clients
from mercato.server.oauth.errors import ClientRefused, OAuthError, TryLater
from mercato.server.oauth.outside import Outside, Unreachable
from mercato.server.oauth.registration import is_costly
from mercato.server.site import Site
from mercato.tenancy.assertions import use_assertion
from mercato.tenancy.clients import OAuthClient
from mercato.tenancy.database import Database
from mercato.tenancy.signing import digest

log = structlog.stdlib.get_logger(__name__)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
_LONGEST_LIFE_S = 3_600
_SKEW_S = 60
_KEYS_FRESH_S, _KEYS_ASKED_EVERY_S = 300, 10
_MOST_KEYS_BYTES = 32 * 1024
_MOST_KEY_SETS = 500


class ClientAuthentication:
    """Authenticates clients: none, client_secret_basic, client_secret_post, private_key_jwt."""

    def __init__(self, database: Database, clients: Clients, outside: Outside, site: Site) -> None:
        self._database = database
        self._clients = clients
        self._keys = _ClientKeys(outside)
        self._audiences = {site.issuer, site.url("/token"), site.url("/revoke"), site.url("/introspect")}

    async def client(self, request: Request, form: Mapping[str, str]) -> OAuthClient:
        """Return the client that a request comes from. Raises `OAuthError`; where it proves nothing `ClientRefused`."""
        basic = _basic(request.headers.get("authorization", ""))
        ways = [basic is not None, "client_secret" in form, "client_assertion" in form]
        if sum(ways) > 1:
            raise OAuthError("invalid_request", "Authenticate in one way, not in several.")
        if "client_assertion" in form:
            return await self._by_assertion(form)
        client_id, secret = basic or (form.get("client_id"), form.get("client_secret"))
        if not client_id or form.get("client_id", client_id) != client_id:
            raise OAuthError("invalid_request", "The client_id is missing, or is not the one that authenticates.")
        client = await self._find(client_id, basic=basic is not None)
        if not _proven(client, secret or ""):
            raise ClientRefused("The client did not authenticate as it is registered.", basic=basic is not None)
        return client

    async def _find(self, client_id: str, *, basic: bool = False) -> OAuthClient:
        try:
            return await self._clients.find(client_id, new=False)
        except TryLater:
            raise
        except OAuthError as error:
            raise ClientRefused(error.description, basic=basic) from None

    async def _by_assertion(self, form: Mapping[str, str]) -> OAuthClient:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthError("invalid_request", f"The client_assertion_type must be {ASSERTION_TYPE}.")
        assertion = form["client_assertion"]
        client_id = _claimed_issuer(assertion)
        if form.get("client_id", client_id) != client_id:
            raise ClientRefused("The assertion is another client's.")
        client = await self._find(client_id)
        if client.auth_method != "private_key_jwt":
            raise ClientRefused("The client did not authenticate as it is registered.")
        claims = await self._verified(client, assertion)
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        if not await use_assertion(self._database, client_id, claims["jti"], expires_at):
            raise ClientRefused("The assertion was shown before: each is good once.")
        return client

    async def _verified(self, client: OAuthClient, assertion: str) -> dict[str, Any]:
        claims: dict[str, Any] = {}
        for again in (False, True):  # a key that is new at the client is looked for once more
            keys = await self._keys.of(client, again=again)
            try:
                claims = jwt.decode(assertion, keys, algorithms=list(ALGORITHMS)).claims
                break
            except (JoseError, ValueError, TypeError):
                if again or client.jwks_uri is None:
                    raise ClientRefused("The assertion's signature is not good.") from None
        if (reason := self._fault(client, claims)) is not None:
            raise ClientRefused(reason)
        return claims

    def _fault(self, client: OAuthClient, claims: Mapping[str, Any]) -> str | None:
        """Return what is wrong with an assertion (RFC 7523, 3)."""
        now, audience = time.time(), claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        expires = _seconds(claims.get("exp"), float("-inf"))
        not_before = _seconds(claims.get("nbf", claims.get("iat")), now)
        if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
            return "The assertion's iss and sub must be the client_id."
        if not any(isinstance(one, str) and one.rstrip("/") in self._audiences for one in audiences):
            return "The assertion's aud must be the issuer or the endpoint."
        if not now - _SKEW_S < expires < now + _LONGEST_LIFE_S + _SKEW_S:
            return "The assertion has expired, or lives for longer than an hour."
        if not_before > now + _SKEW_S:
            return "The assertion is not good yet."
        if not isinstance(claims.get("jti"), str) or not 0 < len(claims["jti"]) <= 500:
            return "The assertion needs a jti."
        return None


class _ClientKeys:
    """The public keys of clients; those at an address are kept for a while."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._kept: OrderedDict[str, tuple[float, KeySet | None]] = OrderedDict()

    async def of(self, client: OAuthClient, *, again: bool) -> KeySet:
        if client.jwks is not None:
            return _key_set(client.jwks)
        url = client.jwks_uri or ""
        read_at, keys = self._kept.get(url, (float("-inf"), None))
        if time.monotonic() - read_at < (_KEYS_ASKED_EVERY_S if again or keys is None else _KEYS_FRESH_S):
            return _there(keys)
        try:
            document = await self._outside.read(url, most_bytes=_MOST_KEYS_BYTES)
            keys = _key_set(orjson.loads(document.body or b""))
        except (Unreachable, orjson.JSONDecodeError, ClientRefused) as error:
            log.warning("a client's keys cannot be read", client_id=client.client_id, error=str(error))
        self._kept[url] = (time.monotonic(), keys)  # a failure too: nobody makes us ask without end
        self._kept.move_to_end(url)
        if len(self._kept) > _MOST_KEY_SETS:
            self._kept.popitem(last=False)
        return _there(keys)


def _there(keys: KeySet | None) -> KeySet:
    if keys is None:  # not `invalid_client`: a client that is told so throws its registration away
        raise TryLater("temporarily_unavailable", "The client's keys cannot be read at the moment.")
    return keys


def _key_set(jwks: Any) -> KeySet:
    try:
        usable = [key for key in jwks["keys"] if key.get("kty") in ("RSA", "EC", "OKP") and not is_costly(key)]
        return KeySet.import_key_set({"keys": usable})
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise ClientRefused("The client's keys cannot be read.") from None


def _proven(client: OAuthClient, secret: str) -> bool:
    if client.auth_method == "none":
        return not secret
    if client.secret_digest is None:
        return False
    return hmac.compare_digest(client.secret_digest, digest(secret))


def _basic(header: str) -> tuple[str, str] | None:
    """Return the id and secret of HTTP Basic, which are form-encoded in it (RFC 6749, 2.3.1)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, found, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        found = ""
    if not found:
        raise ClientRefused("The Authorization header cannot be read.", basic=True)
    return unquote_plus(client_id), unquote_plus(secret)


def _claimed_issuer(assertion: str) -> str:
    """Return who an assertion says it is from: not yet believed, only to know whose keys to take."""
    try:
        payload = assertion.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        issuer = claims["iss"]
    except (IndexError, ValueError, TypeError, KeyError):
        raise ClientRefused("The assertion cannot be read.") from None
    if not isinstance(issuer, str):
        raise ClientRefused("The assertion cannot be read.")
    return issuer


def _seconds(value: Any, absent: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else absent
