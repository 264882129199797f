"""Redirect addresses: which a client may have, and which of them a request names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from urllib.parse import SplitResult, urlsplit

from mercato.server.oauth.errors import OAuthError

MOST = 20
LONGEST = 2_000
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_NETLOC = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@]*)(:\d*)?", re.IGNORECASE)
"""A host and a port. Python reads `[::1].evil.example` as the host `::1`."""


def usable(uris: Iterable[object], schemes: Collection[str]) -> list[str]:
    """Return the addresses that a client may have. Raises `OAuthError`.

    `https` everywhere, `http` on this computer, and the private schemes listed. An unlisted private scheme is left out
    where others remain, because clients register several at once; what could run or leak in a browser is refused.
    """
    given = list(uris)
    if not given or len(given) > MOST:
        raise _refusal(f"Give 1 to {MOST} redirect_uris.")
    kept = [uri for uri in map(_checked, given) if urlsplit(uri).scheme in {"http", "https", *schemes}]
    if not kept:
        raise _refusal(f"None of these schemes may be redirected to; besides https: {', '.join(sorted(schemes))}.")
    return list(dict.fromkeys(kept))


def _checked(uri: object) -> str:
    if not isinstance(uri, str) or not uri or len(uri) > LONGEST:
        raise _refusal("Each redirect_uri must be an absolute URL.")
    parts = _split(uri)
    if parts.scheme == "https":
        good = bool(parts.hostname)
    elif parts.scheme == "http":
        good = parts.hostname in _LOOPBACK
    else:
        good = parts.scheme not in {"javascript", "data", "vbscript", "file", "blob", "about", "ws", "wss", "ftp"}
    if not good:
        raise _refusal("A redirect_uri must be https, http on this computer, or a private scheme that may run nothing.")
    return uri


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018  # raises for what is no number
    except ValueError:
        raise _refusal("A redirect_uri cannot be read as a URL.") from None
    unsafe = any(part.isspace() or not part.isprintable() or part in '\\"<>' for part in uri) or not uri.isascii()
    unsafe |= any(part in "*;,'" for part in parts.netloc)  # the last three would end a source in our policy
    unsafe |= _NETLOC.fullmatch(parts.netloc) is None
    if unsafe or not parts.scheme or "#" in uri:
        raise _refusal("A redirect_uri must be an absolute URL without a fragment, user or wildcard.")
    return parts


def find(registered: Collection[str], wanted: str | None) -> str | None:
    """Return the address to redirect to; None where the request names one that the client does not have.

    Compared letter by letter, but for the port on this computer (RFC 8252, 7.3). It may be left out where the client
    has one only.
    """
    if wanted is None:
        only = list(registered)
        return only[0] if len(only) == 1 and not _is_loopback(only[0]) else None
    if wanted in registered:
        return wanted
    portless = _without_port(wanted)
    if portless is None or any(part.isspace() or not part.isprintable() for part in wanted):
        return None
    return wanted if any(_without_port(uri) == portless for uri in registered) else None


def host_of(uri: str) -> str:
    """Return where an address leads, for a person: a host, or the scheme of a program on this computer.

    What stands for a host after a private scheme is none: it can be anybody's name.
    """
    parts = urlsplit(uri)
    return parts.hostname or "" if parts.scheme in {"http", "https"} else f"{parts.scheme}:"


def place_of(uri: str) -> str:
    """Return the same, and say so where it is the person's own computer."""
    return f"this computer ({host_of(uri)})" if is_local(uri) else host_of(uri)


def is_local(uri: str) -> bool:
    """Whether the answer goes to a program on the person's own computer, which can be any program."""
    return _is_loopback(uri) or urlsplit(uri).scheme not in {"http", "https"}


def form_action(uri: str) -> str:
    """Return where the answer of the consent form may lead, as sources of the Content-Security-Policy.

    Browsers hold the whole chain of redirects against it, and many clients lead on from their address: from `www` to
    the bare host, from a program on this computer to a page that says "done".
    """
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return f"{parts.scheme}:"
    if not _is_loopback(uri):
        return f"{parts.scheme}://{parts.netloc} https:"
    if ":" in (parts.hostname or ""):  # an IPv6 address is no source that a policy can name
        return "http: https:"
    return f"http://{parts.netloc} http://localhost:* http://127.0.0.1:* https:"


def _without_port(uri: str) -> tuple[str, ...] | None:
    """Return what must be the same of an address on this computer, whatever the port; None for any other."""
    if not _is_loopback(uri) or "#" in uri:
        return None
    parts = urlsplit(uri)
    return (parts.hostname or "", parts.path, parts.query, parts.username or "")


def _is_loopback(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018  # raises for what is no number
    except ValueError:
        return False
    plain = _NETLOC.fullmatch(parts.netloc) is not None
    return plain and parts.scheme == "http" and _is_loopback_host(parts.hostname or "")


def _is_loopback_host(host: str) -> bool:
    if host in _LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(text: str) -> OAuthError:
    return OAuthError("invalid_redirect_uri", text)
