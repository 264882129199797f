"""What the authorization server refuses, in the form that OAuth gives it.

OAuthError              answered as JSON by an endpoint that a client calls
 ├── TryLater           it could not be found out now: 503
 ├── ClientRefused      the client is unknown or did not prove itself: 401
 ├── AuthorizationError sent back to the client by a redirect, because the client and its redirect are known
 └── Unauthorizable     shown to the person, because it is not known where to send it
"""

from __future__ import annotations

import orjson
from starlette.responses import Response

_LONGEST_DESCRIPTION = 300


class OAuthError(Exception):
    """An error of RFC 6749 and its kin: a code for programs, a sentence for those who write them."""

    status = 400

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description

    def again(self) -> OAuthError:
        """Return the same anew, for another who waited for it too."""
        return type(self)(self.code, self.description)

    def response(self) -> Response:
        """Return the HTTP answer: JSON, never a page, and never kept."""
        return json_response({"error": self.code, "error_description": safe(self.description)}, self.status)


class TryLater(OAuthError):
    """It is not known yet: nothing was refused for good."""

    status = 503


class ClientRefused(OAuthError):
    """The client is unknown, or did not prove that it is who it says."""

    status = 401

    def __init__(self, description: str, *, basic: bool = False) -> None:
        super().__init__("invalid_client", description)
        self._basic = basic

    def response(self) -> Response:
        """Return the HTTP answer; to one that came with HTTP authentication it names the scheme (RFC 6749, 5.2)."""
        response = super().response()
        if self._basic:
            response.headers["WWW-Authenticate"] = 'Basic realm="mercato"'
        return response


class AuthorizationError(OAuthError):
    """An authorization request that cannot be granted, of a client whose redirect is known."""


class Unauthorizable(Exception):
    """An authorization request of which nothing may be sent anywhere; the text is for the person."""


def json_response(body: object, status: int = 200, *, keep_s: int = 0) -> Response:
    """Return JSON, which nobody may keep unless `keep_s` says so."""
    caching = f"public, max-age={keep_s}" if keep_s else "no-store"
    headers = {"Cache-Control": caching, "X-Content-Type-Options": "nosniff"}
    return Response(orjson.dumps(body), status_code=status, media_type="application/json", headers=headers)


def safe(text: str) -> str:
    """Return a description with the characters alone that it may have (RFC 6749, 5.2)."""
    kept = "".join(part if " " <= part <= "~" and part not in '"\\' else "'" for part in text)
    return kept[:_LONGEST_DESCRIPTION]
