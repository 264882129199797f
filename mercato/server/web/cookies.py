"""The cookies: for the session, for the forms of a browser that has none yet, for a browser that once had one."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response

from mercato.server.site import Site
from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.sessions import LONGEST
from mercato.tenancy.signing import Signer, digest

_KNOWN_S = 365 * 24 * 3600
_MARK_BYTES = 16


class Cookies:
    """Reads and sets them. Over https they are bound to this very host; their name has the port, which cookies lack."""

    def __init__(self, site: Site, ring: KeyRing) -> None:
        self._secure = site.secure
        prefix = "__Host-mercato" if site.secure else "mercato"
        self._session, self._visit, self._known, self._oidc = (
            f"{prefix}_{name}{site.cookie_suffix}" for name in ("session", "visit", "known", "oidc")
        )
        self._signer = Signer(ring, "form")
        self._browsers = Signer(ring, "known browser")

    def session(self, request: Request) -> str | None:
        """Return the token of the session that a request claims."""
        return request.cookies.get(self._session)

    def visit(self, request: Request) -> str | None:
        """Return what ties the forms of a browser without a session."""
        return request.cookies.get(self._visit)

    def set_session(self, response: Response, token: str) -> None:
        """Sign a browser in; what tied its forms before is no good any more."""
        self._set(response, self._session, token, int(LONGEST.total_seconds()))
        self._delete(response, self._visit)

    def set_visit(self, response: Response, visit: str) -> None:
        """Tie a browser's forms until it is closed."""
        self._set(response, self._visit, visit, None)

    def end_session(self, response: Response) -> None:
        """Sign a browser out."""
        self._delete(response, self._session)

    def attempt(self, request: Request) -> str:
        """Return the sealed attempt to sign in elsewhere; empty where there is none."""
        return request.cookies.get(self._oidc, "")

    def set_attempt(self, response: Response, sealed: str, lasts_s: int) -> None:
        """Keep an attempt to sign in elsewhere, sealed."""
        self._set(response, self._oidc, sealed, lasts_s)

    def end_attempt(self, response: Response) -> None:
        """Forget it."""
        self._delete(response, self._oidc)

    def remember_browser(self, response: Response, email: str) -> None:
        """Let this browser's attempts at this account be counted apart from what strangers try."""
        marked = self._browsers.sign(secrets.token_bytes(_MARK_BYTES) + digest(email))
        self._set(response, self._known, marked, _KNOWN_S)

    def known_browser(self, request: Request, email: str) -> str | None:
        """Return the mark of a browser that has signed in to this account before."""
        payload = self._browsers.verify(request.cookies.get(self._known, ""))
        if payload is None or payload[_MARK_BYTES:] != digest(email):
            return None
        return payload[:_MARK_BYTES].hex()

    def csrf(self, binding: str) -> str:
        """Return the token that the forms of this browser carry."""
        return self._signer.sign(digest(binding))

    def is_csrf(self, token: str, binding: str) -> bool:
        """Whether a form's token belongs to this browser."""
        return self._signer.verify(token) == digest(binding)

    def _set(self, response: Response, name: str, value: str, max_age_s: int | None) -> None:
        response.set_cookie(
            name, value, max_age=max_age_s, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def _delete(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")


def new_visit() -> str:
    """Return what ties the forms of a browser that is new here."""
    return secrets.token_urlsafe(24)
