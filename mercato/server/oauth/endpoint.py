"""What every endpoint that a client calls has in common: OAuth's own answers, whatever happens inside."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mercato.server.oauth.errors import OAuthError, json_response
from mercato.server.runtime import Runtime
from mercato.tenancy.database import is_outage

log = structlog.stdlib.get_logger(__name__)

Endpoint = Callable[[Runtime, Request], Awaitable[Response]]


def oauth_endpoint(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Return a Starlette endpoint that answers errors in OAuth's form: JSON, never a page."""

    @functools.wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request.app.state.runtime, request)
        except OAuthError as error:
            request.state.said = {"oauth_error": error.code}
            return error.response()
        except HTTPException:
            raise  # there is nothing at this address
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001  # the edge of a request: nothing but OAuth's own words may go out
            return _failure(request, error)

    return answer


def _failure(request: Request, error: Exception) -> Response:
    if is_outage(error):
        log.warning("the database does not answer", error=type(error).__name__)
        text = "The database does not answer at the moment: try again."
        response = json_response({"error": "temporarily_unavailable", "error_description": text}, 503)
        response.headers["Retry-After"] = "2"
        return response
    reference = getattr(request.state, "request_id", "")
    log.error("request failed", request_id=reference, exc_info=error)
    return json_response({"error": "server_error", "error_description": f"Reference: {reference}."}, 500)
