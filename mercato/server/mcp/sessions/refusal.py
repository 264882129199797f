"""Refusals: what is wrong with a request before its session is asked, as an HTTP answer with a JSON-RPC error."""

from __future__ import annotations

import mcp_types as mcp
from starlette.responses import Response

from mercato.server.mcp.messages import error_response

RETRY_SOON_S = 2
RETRY_LATER_S = 30


class Refused(Exception):
    """Knows its HTTP status, its JSON-RPC code and, where it helps, when to come back."""

    def __init__(
        self, status: int, text: str, *, code: int = mcp.INVALID_REQUEST, retry_after_s: int | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    def response(self, request_id: str | int | None = None) -> Response:
        """Return the HTTP answer."""
        response = error_response(self.status, self.code, str(self), request_id)
        if self.status == 405:
            response.headers["Allow"] = "POST, OPTIONS"
        if self.retry_after_s is not None:
            response.headers["Retry-After"] = str(self.retry_after_s)
        return response


def unknown_session() -> Refused:
    """The same for a session that never was, one that has ended, and one of somebody else."""
    return Refused(404, "There is no such session: begin a new one with `initialize`.")


def away() -> Refused:
    """Redis does not answer."""
    text = "Sessions cannot be looked up at the moment: try again."
    return Refused(503, text, code=mcp.INTERNAL_ERROR, retry_after_s=RETRY_SOON_S)


def draining() -> Refused:
    """The server ends; another replica takes over."""
    return Refused(503, "This server is about to end: try again.", code=mcp.INTERNAL_ERROR, retry_after_s=1)


def too_many(what: str) -> Refused:
    """A bound of one tenant or one session was reached."""
    return Refused(429, what, code=mcp.INTERNAL_ERROR, retry_after_s=RETRY_SOON_S)


def no_room() -> Refused:
    """The tenant has as many sessions as it may have, and none of them is idle."""
    text = "This tenant has too many sessions that are in use: end some, or try again later."
    return Refused(503, text, code=mcp.INTERNAL_ERROR, retry_after_s=RETRY_LATER_S)
