"""Addresses: origins, well-known places, and how two that should be equal differ."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit, urlunsplit

PROTECTED_RESOURCE = "oauth-protected-resource"
AUTHORIZATION_SERVER = "oauth-authorization-server"
OPENID_CONFIGURATION = "openid-configuration"

SET_PUBLIC_URL = "Set MERCATO_PUBLIC_URL to what people type"


def origin_of(url: str) -> str:
    """Return scheme, host and port, with a default port left out; empty where this is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if not parts.scheme or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, default} else "")


def host_of(url: str) -> str:
    """Return the host without port and brackets; empty where this is no address."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def path_of(url: str) -> str:
    """Return the path without a slash at its end."""
    return urlsplit(url).path.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether only programs on the same machine can reach it."""
    host = host_of(url)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_safe(url: str) -> bool:
    """Whether clients accept it: https, or http on loopback."""
    return url.startswith("https://") or (url.startswith("http://") and is_loopback(url))


def without_query(url: str) -> str:
    """Return an address as it may be shown: its query may hold a code or a state."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return urlunsplit(SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def resource_places(url: str) -> list[str]:
    """Return where RFC 9728 puts a resource's document: with the path inserted, then at the root."""
    root = f"{origin_of(url)}/.well-known/{PROTECTED_RESOURCE}"
    return list(dict.fromkeys([root + path_of(url), root]))


def server_places(issuer: str) -> list[str]:
    """Return where clients look for an authorization server's document, in their order."""
    origin, path = origin_of(issuer), path_of(issuer)
    places = [
        f"{origin}/.well-known/{AUTHORIZATION_SERVER}{path}",
        f"{origin}/.well-known/{OPENID_CONFIGURATION}{path}",
        f"{origin}{path}/.well-known/{OPENID_CONFIGURATION}",
    ]
    return list(dict.fromkeys(places))


def difference(said: str, expected: str) -> tuple[str, str]:
    """Say how an address differs from the one expected, and how that is mended."""
    public = f"{SET_PUBLIC_URL}: {origin_of(expected)}."
    if said.rstrip("/") == expected.rstrip("/"):
        return "has a trailing slash", "Say it without the slash: clients compare the two letter by letter."
    if said.replace("http://", "https://", 1) == expected:
        mend = f"{public} The proxy ends TLS, and the server behind it takes its own address for http."
        return "says http instead of https", mend
    if origin_of(said) != origin_of(expected):
        return "names another host", f"{public} Never let it be made of the Host header or the listening address."
    mend = f"Type the address that the server names ({without_query(said)}), or let the proxy keep the path as it is."
    return "names another path", mend
