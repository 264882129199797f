"""Signing in elsewhere: the way there and back."""

from __future__ import annotations

import base64
import hmac
import time

import orjson
import structlog
from starlette.responses import RedirectResponse, Response

from mercato.server.oidc import Attempt, Known, OidcFailed, OidcProvider, new_attempt
from mercato.server.web.invitation import find_by_token, join
from mercato.server.web.page import Refusal, Visit, local_path, page
from mercato.server.web.sign_in import HOME, signed_in
from mercato.tenancy import accounts
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.secrets import Place

log = structlog.stdlib.get_logger(__name__)

_LASTS_S = 600
_PLACE: Place = (0, "cookie", "oidc", 0)


@page
async def begin(visit: Visit) -> Response:
    """Send the person to the provider."""
    following = local_path(visit.request.query_params.get("next", HOME), HOME)
    attempt = new_attempt(following, visit.request.query_params.get("invitation", ""))
    try:
        location = await _provider(visit).address(attempt)
    except OidcFailed as error:
        raise _failed(error) from None
    response = RedirectResponse(location, status_code=303, headers={"Cache-Control": "no-store"})
    sealed = visit.runtime.ring.seal(orjson.dumps([time.time() + _LASTS_S, attempt.plain()]), _PLACE)
    visit.web.cookies.set_attempt(response, base64.urlsafe_b64encode(sealed).decode(), _LASTS_S)
    return response


@page
async def finish(visit: Visit) -> Response:
    """Take the provider's answer, and sign the person in."""
    attempt, given = _attempt(visit), visit.request.query_params
    if attempt is None or not hmac.compare_digest(given.get("state", "").encode(), attempt.state.encode()):
        raise Refusal("Please try again", "This sign-in was not begun in this browser, or took too long.", 403)
    if "code" not in given:
        raise Refusal("You are not signed in", "The other side did not sign you in.", 403)
    try:
        known = await _provider(visit).known(attempt, given["code"])
    except OidcFailed as error:
        raise _failed(error) from None
    user_id = await _person(visit, attempt, known)
    response = await signed_in(visit, user_id, attempt.following)
    visit.web.cookies.end_attempt(response)
    return response


async def _person(visit: Visit, attempt: Attempt, known: Known) -> int:
    """Return the account of who has signed in, by way of an invitation where they came by one."""
    database = visit.runtime.database
    if attempt.invitation:
        invited = await find_by_token(visit, attempt.invitation)
        if known.email is None or accounts.clean_email(known.email) != invited.email:
            raise Refusal("Another address", f"The invitation is for {invited.email}: sign in with that one.", 403)
        user_id = await accounts.open_account_elsewhere(
            database, known.issuer, known.subject, invited.email, accounts.clean_name(known.name)
        )
        await join(visit, invited, user_id)
        return user_id
    try:
        account = await accounts.sign_in_by_identity(database, known.issuer, known.subject, known.email)
    except InvalidValue:
        account = None
    if account is None:
        raise Refusal("No account here", "Ask somebody of your business for an invitation, then sign in.", 403)
    return account.user_id


def _attempt(visit: Visit) -> Attempt | None:
    try:
        sealed = base64.urlsafe_b64decode(visit.web.cookies.attempt(visit.request))
        expires_at, plain = orjson.loads(visit.runtime.ring.open(sealed, _PLACE))
    except (ValueError, InvalidValue):
        return None
    return Attempt(**plain) if expires_at > time.time() else None


def _provider(visit: Visit) -> OidcProvider:
    if visit.runtime.oidc is None:
        raise Refusal("Nothing is here", "This server has no other place to sign in.", 404)
    return visit.runtime.oidc


def _failed(error: OidcFailed) -> Refusal:
    log.warning("sign-in elsewhere failed", error=str(error))
    return Refusal("The other side did not answer", "Try again in a minute, or sign in with your password.", 502)
