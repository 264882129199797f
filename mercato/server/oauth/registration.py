"""What a client may say of itself, when it registers or in its document (RFC 7591)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from mercato.server.oauth.errors import OAuthError
from mercato.server.oauth.redirects import host_of, usable
from mercato.tenancy.accounts import shown_text
from mercato.tenancy.clients import ClientKind, OAuthClient

AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
GRANT_TYPES = ("authorization_code", "refresh_token")
_LONGEST_NAME = 100
_LONGEST_JWKS = 6_000
_LONGEST_MODULUS, _LONGEST_EXPONENT = 683, 6
"""In characters of base64: 4,096 and 32 bits."""


def client_of(metadata: Mapping[str, Any], schemes: Collection[str]) -> OAuthClient:
    """Return the client that this metadata describes, without an id yet. Raises `OAuthError`.

    What is not understood is left out; the answer to a registration says what was taken.
    """
    redirect_uris = metadata.get("redirect_uris")
    if not isinstance(redirect_uris, list):
        raise OAuthError("invalid_redirect_uri", "`redirect_uris` must be a list.")
    kept = usable(redirect_uris, schemes)
    method = metadata.get("token_endpoint_auth_method", "client_secret_basic")
    if not isinstance(method, str) or method not in AUTH_METHODS:
        raise _refusal(f"`token_endpoint_auth_method` must be one of {', '.join(AUTH_METHODS)}.")
    _check_types(metadata)
    jwks, jwks_uri = _keys(metadata, method)
    return OAuthClient(
        client_id="",
        kind=ClientKind.REGISTERED,
        name=_name(metadata.get("client_name")) or host_of(kept[0]),
        redirect_uris=kept,
        auth_method=method,
        jwks=jwks,
        jwks_uri=jwks_uri,
        home=_home(metadata.get("client_uri")),
    )


def _check_types(metadata: Mapping[str, Any]) -> None:
    """Refuse a client that could never get anything here. Types beyond ours are ignored: Claude lists some."""
    grants = metadata.get("grant_types", ["authorization_code"])
    if not isinstance(grants, list) or "authorization_code" not in grants:
        raise _refusal("`grant_types` must hold authorization_code.")
    answers = metadata.get("response_types", ["code"])
    if not isinstance(answers, list) or "code" not in answers:
        raise _refusal("`response_types` must hold code.")


def _keys(metadata: Mapping[str, Any], method: str) -> tuple[dict[str, Any] | None, str | None]:
    if method != "private_key_jwt":
        return None, None
    jwks, jwks_uri = metadata.get("jwks"), metadata.get("jwks_uri")
    if jwks is not None:
        if jwks_uri is not None:
            raise _refusal("Give `jwks` or `jwks_uri`, not both.")
        return _public_keys(jwks), None
    if not isinstance(jwks_uri, str) or not _is_plain(jwks_uri) or not jwks_uri.startswith("https://"):
        raise _refusal("private_key_jwt needs `jwks`, or a `jwks_uri` that is https.")
    return None, jwks_uri


def _is_plain(uri: str) -> bool:
    return len(uri) <= 500 and uri.isascii() and uri.isprintable()


def _public_keys(jwks: Any) -> dict[str, Any]:
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
        raise _refusal("`jwks` must hold `keys`.")
    text = orjson.dumps(jwks)
    if len(text) > _LONGEST_JWKS:
        raise _refusal(f"`jwks` may have {_LONGEST_JWKS:,} bytes at most.")
    if rb"\u0000" in text:  # PostgreSQL stores no such character
        raise _refusal("`jwks` cannot be stored: it holds a null character.")
    if any(key.get("kty") not in ("RSA", "EC", "OKP") or "d" in key for key in keys):
        raise _refusal("`jwks` must hold public keys only.")
    if any(map(is_costly, keys)):
        raise _refusal("`jwks` holds a key that is too long: RSA of 4,096 bits at most, with a usual exponent.")
    return {"keys": keys}


def is_costly(key: Mapping[str, Any]) -> bool:
    """Whether a signature of this key would take long to verify."""
    return len(str(key.get("n", ""))) > _LONGEST_MODULUS or len(str(key.get("e", ""))) > _LONGEST_EXPONENT


def _name(name: Any) -> str:
    """Return a client's name as a person may be shown it: one line, and nothing that hides or turns the text."""
    return shown_text(name)[:_LONGEST_NAME] if isinstance(name, str) else ""


def _home(uri: Any) -> str | None:
    if not isinstance(uri, str) or len(uri) > 300 or not uri.isascii() or not uri.isprintable():
        return None
    return uri if uri.startswith("https://") else None


def _refusal(text: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", text)
