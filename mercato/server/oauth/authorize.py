"""An authorization request (RFC 6749, 4.1.1): read and checked here, decided on the consent page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from mercato.server.oauth.errors import AuthorizationError, OAuthError, Unauthorizable, safe
from mercato.server.oauth.forms import pairs, parameters
from mercato.server.oauth.redirects import find
from mercato.server.oauth.scopes import Wanted, parse
from mercato.server.oauth.server import AuthorizationServer
from mercato.server.site import reach_of
from mercato.tenancy.clients import OAuthClient
from mercato.tenancy.reach import Reach

LONGEST_STATE = 512
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """What a client asks a person for. `resource` is in the spelling that tokens will have."""

    client: OAuthClient
    redirect_uri: str
    state: str | None
    challenge: str
    resource: str
    reach: Reach
    wanted: Wanted
    issuer: str

    def answer(self, **values: str) -> str:
        """Return where the person's browser goes, with these values."""
        return _redirect(self.redirect_uri, self.state, self.issuer, values)


class AuthorizationRefused(Exception):
    """The request is refused in the way that the client can read: `location` leads back to it."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


async def read_request(oauth: AuthorizationServer, query: str) -> AuthorizationRequest:
    """Return the request in a query.

    Raises `Unauthorizable` while it is not sure where an answer may be sent, and `AuthorizationRefused` from then on.
    """
    first = _first_values(query)
    client = await _client(oauth, first.get("client_id"))
    redirect_uri = find(client.redirect_uris, first.get("redirect_uri"))
    if redirect_uri is None:
        raise Unauthorizable(
            "The program that sent you here gave an address to return to that is not one of its own, so nothing was "
            "sent there. Start again from the program; if that does not help, its makers must mend it."
        )
    state = first.get("state")
    if state is not None and len(state) > LONGEST_STATE:
        state = None
    try:
        return _checked(oauth, client, redirect_uri, parameters(query))
    except OAuthError as error:
        values = {"error": error.code, "error_description": safe(error.description)}
        raise AuthorizationRefused(_redirect(redirect_uri, state, oauth.site.issuer, values)) from None


async def _client(oauth: AuthorizationServer, client_id: str | None) -> OAuthClient:
    if not client_id:
        raise Unauthorizable("The address says not which program wants to connect: its client_id is missing.")
    try:
        return await oauth.clients.find(client_id)
    except OAuthError as error:
        raise Unauthorizable(
            f"The program that sent you here cannot be connected. {error.description} "
            "Remove the connection there, and add it anew."
        ) from None


def _checked(
    oauth: AuthorizationServer, client: OAuthClient, redirect_uri: str, given: Mapping[str, str]
) -> AuthorizationRequest:
    if len(given.get("state", "")) > LONGEST_STATE:
        raise AuthorizationError("invalid_request", f"A state may have {LONGEST_STATE} characters at most.")
    if given.keys() & {"request", "request_uri"}:
        raise AuthorizationError("request_not_supported", "Send the parameters themselves, not a request object.")
    if given.get("response_type") != "code":
        code = "unsupported_response_type" if "response_type" in given else "invalid_request"
        raise AuthorizationError(code, "The response_type must be code.")
    if given.get("response_mode", "query") != "query":
        raise AuthorizationError("invalid_request", "The response_mode must be query.")
    challenge = given.get("code_challenge", "")
    if given.get("code_challenge_method", "plain") != "S256" or not _CHALLENGE.fullmatch(challenge):
        raise AuthorizationError("invalid_request", "PKCE is needed: a code_challenge, with the method S256.")
    resource, reach = _resource(oauth, given.get("resource"))
    wanted = parse(given.get("scope"), oauth.categories, reach)
    if "none" in given.get("prompt", "").split():
        raise AuthorizationError("interaction_required", "The person is always asked.")
    return AuthorizationRequest(
        client=client,
        redirect_uri=redirect_uri,
        state=given.get("state"),
        challenge=challenge,
        resource=resource,
        reach=reach,
        wanted=wanted,
        issuer=oauth.site.issuer,
    )


def _resource(oauth: AuthorizationServer, resource: str | None) -> tuple[str, Reach]:
    canonical = oauth.site.canonical(resource) if resource else None
    path = oauth.site.path_of(canonical) if canonical else None
    reach = reach_of(path, oauth.categories) if path else None
    if canonical is None or reach is None:
        text = f"Say which resource the token is for (RFC 8707), such as {oauth.site.url('/mcp')}."
        raise AuthorizationError("invalid_target", text)
    return canonical, reach


def _first_values(query: str) -> dict[str, str]:
    """Return the parameters, the two that decide where an answer goes only where there is no doubt about them."""
    try:
        found = pairs(query)
    except OAuthError as error:
        raise Unauthorizable(error.description) from None
    first: dict[str, str] = {}
    for name, value in found:
        if name in {"client_id", "redirect_uri"} and first.get(name, value) != value:
            raise Unauthorizable(f"The address says two things about who wants to connect: {name} is given twice.")
        first.setdefault(name, value)
    return {name: value for name, value in first.items() if value}


def _redirect(uri: str, state: str | None, issuer: str, values: Mapping[str, str]) -> str:
    """Return the redirect with its answer; `iss` is in each (RFC 9207), so that no client mixes servers up."""
    answer = {**values, **({"state": state} if state is not None else {}), "iss": issuer}
    joint = "&" if "?" in uri else "?"
    return f"{uri}{joint}{urlencode(answer)}"
