"""OAuth clients of several kinds, and the person who lets them in."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.client_grants import ClientGrant
from mercato.tenancy.codes import AuthorizationCode
from tests.server.browser import Browser
from tests.server.conftest import Site, envelope


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class OAuthClient:
    """A client with what it knows of itself, as RFC 6749 has it; `auth` and `extra` are how it proves who it is."""

    site_url: str
    client_id: str
    redirect_uri: str
    auth: tuple[str, str] | None = None
    extra: dict[str, str] = field(default_factory=dict)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    @property
    def resource(self) -> str:
        return f"{self.site_url}/mcp"

    def request(self, **changed: str | None) -> dict[str, str]:
        """Return an authorization request; None leaves a parameter out."""
        given: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "state": self.state,
            "resource": self.resource,
            **changed,
        }
        return {name: value for name, value in given.items() if value is not None}

    def address(self, **changed: str | None) -> str:
        """Return where the person is sent."""
        return f"/authorize?{urlencode(self.request(**changed))}"

    async def token(self, **given: str | None) -> httpx.Response:
        """Ask for tokens."""
        form: dict[str, str | None] = {**({} if self.auth else {"client_id": self.client_id}), **self.extra, **given}
        sent = {name: value for name, value in form.items() if value is not None}
        async with httpx.AsyncClient(timeout=20, verify=False) as http:
            auth = httpx.BasicAuth(*self.auth) if self.auth else httpx.USE_CLIENT_DEFAULT
            return await http.post(f"{self.site_url}/token", data=sent, auth=auth)

    async def redeem(self, code: str | None, **changed: str | None) -> httpx.Response:
        """Exchange a code."""
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            "resource": self.resource,
        }
        return await self.token(**{**given, **changed})

    async def refresh(self, refresh_token: str, **changed: str | None) -> httpx.Response:
        """Exchange a refresh token."""
        return await self.token(**{"grant_type": "refresh_token", "refresh_token": refresh_token, **changed})


async def register(site_url: str, **metadata: Any) -> dict[str, Any]:
    """Register a client; return what the server said."""
    given = {"client_name": "Probe", "redirect_uris": ["http://127.0.0.1:9123/callback"]}
    given |= {"token_endpoint_auth_method": "none", **metadata}
    async with httpx.AsyncClient(verify=False) as http:
        response = await http.post(f"{site_url}/register", json=given)
    assert response.status_code == 201, response.text
    information: dict[str, Any] = response.json()
    return information


async def public_client(site_url: str, redirect_uri: str = "http://127.0.0.1:9123/callback", **metadata: Any):
    """Register a public client."""
    information = await register(site_url, redirect_uris=[redirect_uri], **metadata)
    return OAuthClient(site_url, information["client_id"], redirect_uri)


def answer_of(response: httpx.Response) -> dict[str, str]:
    """Return what an authorization response tells the client."""
    assert response.is_redirect, response.text
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}


async def allow(browser: Browser, client: OAuthClient, **ticked: Any) -> dict[str, str]:
    """Let a client in as the person signed in: what is ticked already, or `category=[...]`, `write="yes"`."""
    changed = {name: ticked.pop(name) for name in ("scope", "resource", "redirect_uri") if name in ticked}
    page = await browser.get(client.address(**changed))
    assert page.status_code == 200, page.text
    answer = answer_of(await browser.send(page, "/authorize", decision="allow", **ticked))
    assert answer["iss"] == client.site_url
    assert answer["state"] == client.state
    return answer


async def connect(browser: Browser, client: OAuthClient, **ticked: Any) -> dict[str, Any]:
    """Let a client in and fetch its tokens."""
    answer = await allow(browser, client, **ticked)
    response = await client.redeem(answer["code"])
    assert response.status_code == 200, response.text
    tokens: dict[str, Any] = response.json()
    return tokens


async def called(site: Site, token: str, path: str = "/mcp") -> httpx.Response:
    """Call an MCP address with a token, as a client does that lists the tools."""
    body, headers = envelope("tools/list")
    headers |= {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(base_url=site.url, timeout=20, verify=False) as http:
        return await http.post(path, json=body, headers=headers)


def assert_refused(response: httpx.Response, code: str, status: int = 400) -> None:
    """Assert that an endpoint refuses as OAuth has it: JSON with a code and a sentence, and nothing given."""
    assert (response.status_code, response.json().get("error")) == (status, code), response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json().keys() == {"error", "error_description"}


async def given_to(site: Site, client: OAuthClient) -> int:
    """Return how many codes and grants a client has."""
    async with site.runtime.database.system() as session:
        counts = [
            sa.select(sa.func.count()).where(col(table.client_id) == client.client_id)
            for table in (AuthorizationCode, ClientGrant)
        ]
        return sum([(await session.exec(count)).scalar_one() for count in counts])
