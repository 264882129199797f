"""The credential that a request carries: a key or token in a header, or the session of a browser on our own pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request

from mercato.server.site import Site
from mercato.server.web.cookies import Cookies


@dataclass(frozen=True, slots=True)
class Credential:
    """What was presented, and how: `header` for a key or an access token, `session` for a cookie."""

    kind: Literal["header", "session"]
    text: str = field(repr=False)


class ForeignKey(Exception):
    """A browser's page sent an API key: a key in a page is in the hands of all who load it."""


def credential_of(request: Request, cookies: Cookies, site: Site) -> Credential | None:
    """Return the one credential of a request. Raises `ForeignKey`.

    A cookie counts only for a page of ours: any other page can make a browser send it too.
    """
    origin = request.headers.get("origin")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return Credential("header", token.strip())
    if key := request.headers.get("x-api-key"):
        if origin is not None:
            raise ForeignKey
        return Credential("header", key)
    session = cookies.session(request)
    if session is not None and origin is not None and site.is_own_origin(origin):
        return Credential("session", session)
    return None
