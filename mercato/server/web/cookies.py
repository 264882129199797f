"""The cookies: one for the session, one that ties forms to a browser that has none yet."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response

from mercato.server.site import Site
from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.sessions import LONGEST
from mercato.tenancy.signing import Signer, digest


class Cookies:
    """Reads and sets them. Over https they are bound to this very host; on loopback their name has the port."""

    def __init__(self, site: Site, ring: KeyRing, port: int) -> None:
        self._secure = site.secure
        self._session = "__Host-mercato_session" if site.secure else f"mercato_session_{port}"
        self._visit = "__Host-mercato_visit" if site.secure else f"mercato_visit_{port}"
        self._signer = Signer(ring, "form")

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
