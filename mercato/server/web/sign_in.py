"""Signing in and out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from mercato.server.oauth.errors import OAuthError
from mercato.server.oauth.redirects import find, place_of
from mercato.server.web.page import Refusal, Visit, local_path, page
from mercato.tenancy import accounts
from mercato.tenancy.sessions import choose_tenant, end_session, start_session

HOME = "/clients"
WINDOW_S = 900
OF_A_PAIR, OF_A_SUSPECT = 10, 3
"""Attempts at one account from one address in a window; fewer from an address that fails all over."""
OF_AN_ACCOUNT = 100
SUSPECT_AFTER = 200
"""Failures of one address in a window, at whichever accounts. It alone keeps nobody out: whole companies share one."""
_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@page
async def sign_in_page(visit: Visit) -> Response:
    """Show the form; who is signed in already goes on."""
    following = local_path(visit.request.query_params.get("next", HOME), HOME)
    if visit.person is not None:
        return visit.redirect(following)
    return await _form(visit, following)


@page
async def sign_in(visit: Visit) -> Response:
    """Sign in, with a new session whatever the browser had before."""
    following = local_path(visit.value("next") or HOME, HOME)
    email, password = visit.value("email"), visit.value("password")
    names = _counted(visit, email)
    if await _too_many(visit, names):
        errors = {"": "There were too many attempts. Wait a quarter of an hour, then try again."}
        return await _form(visit, following, errors=errors, email=email, status=429)
    account = await accounts.sign_in(
        visit.runtime.database, visit.runtime.passwords, email, password, lane=visit.address
    )
    if account is None:
        await visit.runtime.throttle.count(names.failures, WINDOW_S)
        errors = {"": "The e-mail address or the password is not right."}
        return await _form(visit, following, errors=errors, email=email, status=401)
    for name in filter(None, (names.pair, names.account)):
        await visit.runtime.throttle.forget(name)
    response = await signed_in(visit, account.user_id, following)
    visit.web.cookies.remember_browser(response, account.email)
    return response


async def signed_in(visit: Visit, user_id: int, following: str) -> Response:
    """Begin a new session and go on; the one that the browser had ends."""
    await _end_present(visit)
    device = device_of(visit.request.headers.get("user-agent", ""))
    token = await start_session(visit.runtime.database, user_id, device)
    response = visit.redirect(following)
    visit.web.cookies.set_session(response, token)
    return response


@page
async def sign_out(visit: Visit) -> Response:
    """End the session of this browser."""
    following = local_path(visit.value("next"), "")
    await _end_present(visit)
    response = visit.redirect(f"/sign-in?next={quote(following, safe='')}" if following else "/sign-in")
    visit.web.cookies.end_session(response)
    return response


async def _end_present(visit: Visit) -> None:
    present = visit.web.cookies.session(visit.request)
    if present is not None:
        await end_session(visit.runtime.database, present)


@dataclass(frozen=True, slots=True)
class _Counted:
    """The names under which an attempt is counted. A browser that has signed in to the account before has its own."""

    pair: str
    account: str | None
    failures: str


def _counted(visit: Visit, email: str) -> _Counted:
    account, address = email.strip().lower()[:254], visit.address
    known = visit.web.cookies.known_browser(visit.request, account)
    if known is not None:
        return _Counted(f"sign-in browser {known}", None, f"sign-in failures {address}")
    return _Counted(f"sign-in pair {account} {address}", f"sign-in account {account}", f"sign-in failures {address}")


async def _too_many(visit: Visit, names: _Counted) -> bool:
    """Count an attempt. What an address is refused does not count against the account: nobody locks others out."""
    throttle = visit.runtime.throttle
    of_pair = await throttle.count(names.pair, WINDOW_S)
    if of_pair > OF_A_PAIR:
        return True
    if of_pair > OF_A_SUSPECT and await throttle.look(names.failures) > SUSPECT_AFTER:
        return True
    return names.account is not None and await throttle.count(names.account, WINDOW_S) > OF_AN_ACCOUNT


async def _form(
    visit: Visit, following: str, *, errors: dict[str, str] | None = None, email: str = "", status: int = 200
) -> Response:
    oidc = visit.runtime.settings.oidc
    return visit.page(
        "sign_in.html",
        "Sign in",
        status=status,
        next=following,
        client=await _client_of(visit, following),
        oidc_name=oidc.name if oidc else None,
        oidc_url=f"/sign-in/oidc?next={quote(following, safe='')}",
        no_account_hint="No account yet? Ask somebody of your business for an invitation.",
        errors=errors or {},
        values={"email": email},
    )


async def _client_of(visit: Visit, following: str) -> dict[str, str] | None:
    """Return which client sent the person here, where one did."""
    parts = urlsplit(following)
    client_id = parse_qs(parts.query).get("client_id", [""])[0]
    if parts.path != "/authorize" or not client_id:
        return None
    try:
        client = await visit.runtime.oauth.clients.find(client_id)
    except OAuthError:
        return None
    redirect = find(client.redirect_uris, parse_qs(parts.query).get("redirect_uri", [None])[0])
    return None if redirect is None else {"name": client.name, "host": place_of(redirect)}


def device_of(user_agent: str) -> str:
    """Return what a person recognises of a browser."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), None)
    if browser is None:
        word = re.match(r"[\w.-]{1,40}", user_agent)
        return word[0] if word else "Unknown"
    return f"{browser} on {system}" if system else browser


@page
async def choose(visit: Visit) -> Response:
    """Show another of the person's tenants from now on."""
    belonging = visit.belonging_to(visit.value("tenant"))
    if belonging is None:
        raise Refusal("No such business", "You belong to no such business here.", 404)
    await choose_tenant(visit.runtime.database, visit.signed_in.session_id, belonging.tenant.id)
    return visit.redirect(HOME)


@page
async def home(visit: Visit) -> Response:
    """Lead to the first page."""
    return visit.redirect(HOME if visit.person else "/sign-in")


async def not_found(request: Request, error: Exception) -> Response:
    """Answer for an address where nothing is: a page for a browser, a word for a program."""
    if "text/html" not in request.headers.get("accept", ""):
        return Response("Not Found", status_code=404, media_type="text/plain")
    return await _nothing_here(request)


@page
async def _nothing_here(visit: Visit) -> Response:
    return visit.message("Nothing is here", "The address may be mistyped, or what was there is gone.", status=404)
