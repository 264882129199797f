"""Signing in at an OpenID provider, which here is a few functions behind the server's HTTP transport."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from mercato.server.oidc import CALLBACK, OidcProvider
from mercato.server.settings import OidcSettings, Settings, SettingsError
from mercato.tenancy.accounts import find_account
from mercato.tenancy.invitations import PURPOSE, invite
from mercato.tenancy.memberships import Role, list_members
from mercato.tenancy.signing import Signer
from mercato.tenancy.tenants import Tenant
from tests.server.browser import Browser
from tests.server.conftest import Site

ISSUER = "https://id.example"
KEY = RSAKey.generate_key(2048, parameters={"kid": "one"})
SETTINGS = OidcSettings(f"{ISSUER}/.well-known/openid-configuration", "mercato", "a secret of ours", "Example ID")


@dataclass
class Provider:
    """An OpenID provider: who is there, and what is wrong with its answers."""

    email: str = "ada@acme.example"
    subject: str = "subject-1"
    verified: bool = True
    changed: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: KEY)
    asked: list[dict[str, str]] = field(default_factory=list)
    down: bool = False

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if self.down:
            raise httpx2.ConnectError("down", request=request)
        if request.url.path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            return httpx2.Response(200, json={"issuer": ISSUER, **{k: f"{ISSUER}/{v}" for k, v in ends.items()}})
        if request.url.path == "/jwks":
            return httpx2.Response(200, json={"keys": [KEY.as_dict(private=False)]})
        given = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        self.asked.append(given | {"authorization": request.headers.get("authorization", "")})
        return httpx2.Response(
            200, json={"access_token": "x", "token_type": "Bearer", "id_token": self._id_token(given)}
        )

    def _id_token(self, given: dict[str, str]) -> str:
        claims = {
            "iss": ISSUER,
            "aud": "mercato",
            "sub": self.subject,
            "exp": int(time.time()) + 60,
            "nonce": given["code"],  # the browser below brings the nonce as the code
            "email": self.email,
            "email_verified": self.verified,
            "name": "Ada of Example",
            **self.changed,
        }
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)


@pytest.fixture
def provider(site: Site, monkeypatch: pytest.MonkeyPatch) -> Provider:
    fake = Provider()
    transport = httpx2.MockTransport(fake)
    monkeypatch.setattr(site.runtime, "oidc", OidcProvider(SETTINGS, f"{site.url}{CALLBACK}", transport))
    monkeypatch.setattr(type(site.runtime.settings), "oidc", SETTINGS)
    return fake


async def come_back(browser: Browser, address: str, **changed: str) -> httpx.Response:
    """Go to the provider and back, as a browser that signs in there at once."""
    away = await browser.get(address)
    assert away.headers["location"].startswith(f"{ISSUER}/authorize?"), away.text
    sent = {name: values[0] for name, values in parse_qs(urlsplit(away.headers["location"]).query).items()}
    assert sent["code_challenge_method"] == "S256"
    assert sent["scope"].split() == ["openid", "email", "profile"]
    answer = httpx.QueryParams({"code": sent["nonce"], "state": sent["state"], **changed})
    return await browser.get(f"{CALLBACK}?{answer}")


async def owner(site: Site, tenant: Tenant) -> str:
    return str((await list_members(site.runtime.database, tenant.id))[0]["email"])


async def test_who_has_an_account_signs_in_there_and_goes_on_where_they_wanted(
    site: Site, acme: Tenant, provider: Provider
):
    provider.email = (await owner(site, acme)).upper()
    async with Browser(site.url) as browser:
        page = await browser.get("/sign-in?next=/keys")
        assert "Continue with Example ID" in page.text
        shown = await come_back(browser, "/sign-in/oidc?next=/keys")
        assert "API keys" in shown.text
    (asked,) = provider.asked
    assert asked["authorization"].startswith("Basic ")
    assert len(asked["code_verifier"]) >= 43


async def test_an_identity_stays_with_its_account_whatever_its_address_becomes(
    site: Site, acme: Tenant, other_tenant: Tenant, provider: Provider
):
    provider.email, provider.subject = await owner(site, acme), "stays"
    async with Browser(site.url) as browser:
        await come_back(browser, "/sign-in/oidc")
    provider.email = await owner(site, other_tenant)
    async with Browser(site.url) as browser:
        assert "Acme" in (await come_back(browser, "/sign-in/oidc")).text


async def test_who_has_no_account_here_gets_none_by_signing_in_there(site: Site, acme: Tenant, provider: Provider):
    provider.email, provider.subject = "stranger@nowhere.example", "stranger"
    async with Browser(site.url) as browser:
        shown = await come_back(browser, "/sign-in/oidc")
        assert shown.status_code == 403
        assert "No account here" in shown.text
        assert "Sign in" in (await browser.get("/clients")).text


async def test_an_address_that_is_not_verified_opens_nothing(site: Site, acme: Tenant, provider: Provider):
    provider.email, provider.subject, provider.verified = await owner(site, acme), "unverified", False
    async with Browser(site.url) as browser:
        assert (await come_back(browser, "/sign-in/oidc")).status_code == 403


async def test_an_invited_person_joins_without_a_password(site: Site, acme: Tenant, provider: Provider):
    provider.email, provider.subject = "cyd@acme.example", "cyd"
    async with site.runtime.database.tenant(acme.id) as db:
        signer = Signer(site.runtime.ring, PURPOSE)
        _, token = await invite(db, signer, "cyd@acme.example", Role.MEMBER, invited_by_user_id=None)
    async with Browser(site.url) as browser:
        shown = await come_back(browser, f"/sign-in/oidc?invitation={quote(token)}")
        assert "Connected clients" in shown.text
    account = await find_account(site.runtime.database, "cyd@acme.example")
    assert (account.has_password, account.has_sign_in) == (False, True)


async def test_an_invitation_is_not_for_another_address(site: Site, acme: Tenant, provider: Provider):
    provider.email, provider.subject = "eve@elsewhere.example", "eve"
    async with site.runtime.database.tenant(acme.id) as db:
        signer = Signer(site.runtime.ring, PURPOSE)
        _, token = await invite(db, signer, "dan@acme.example", Role.OWNER, invited_by_user_id=None)
    async with Browser(site.url) as browser:
        shown = await come_back(browser, f"/sign-in/oidc?invitation={quote(token)}")
        assert (shown.status_code, "The invitation is for dan@acme.example" in shown.text) == (403, True)


WRONG = [
    {"iss": "https://evil.example"},
    {"aud": "somebody else"},
    {"aud": ["mercato", "other"], "azp": "other"},
    {"exp": 1},
    {"nonce": "another"},
    {"sub": None},
]


@pytest.mark.parametrize("changed", WRONG, ids=str)
async def test_an_answer_that_is_not_for_this_request_signs_nobody_in(
    site: Site, acme: Tenant, provider: Provider, changed: dict[str, Any]
):
    provider.email, provider.changed = await owner(site, acme), changed
    async with Browser(site.url) as browser:
        shown = await come_back(browser, "/sign-in/oidc")
        assert shown.status_code == 502
        assert "did not answer" in shown.text
        assert "Sign in" in (await browser.get("/clients")).text


async def test_an_answer_that_somebody_else_signed_signs_nobody_in(site: Site, acme: Tenant, provider: Provider):
    provider.email, provider.key = await owner(site, acme), RSAKey.generate_key(2048)
    async with Browser(site.url) as browser:
        assert (await come_back(browser, "/sign-in/oidc")).status_code == 502


async def test_an_answer_counts_only_in_the_browser_that_asked(site: Site, acme: Tenant, provider: Provider):
    provider.email = await owner(site, acme)
    async with Browser(site.url) as browser, Browser(site.url) as other:
        assert (await come_back(browser, "/sign-in/oidc", state="forged")).status_code == 403
        assert (await other.get(f"{CALLBACK}?code=x&state=y")).status_code == 403


async def test_a_provider_that_is_down_is_said_in_plain_words(site: Site, acme: Tenant, provider: Provider):
    provider.down = True
    async with Browser(site.url) as browser:
        assert (await browser.get("/sign-in/oidc")).status_code == 502


async def test_without_a_provider_there_is_no_such_page(site: Site):
    async with Browser(site.url) as browser:
        assert (await browser.get("/sign-in/oidc")).status_code == 404


def test_the_settings_of_a_provider_belong_together():
    with pytest.raises(SettingsError, match="belong together"):
        Settings(oidc_client_id="mercato")


async def test_a_long_way_to_go_on_is_not_lost_on_the_way_there_and_back(site: Site, acme: Tenant, provider: Provider):
    provider.email, provider.subject = await owner(site, acme), "long"
    following = f"/account?{'a' * 2_000}"
    async with Browser(site.url) as browser:
        begun = await browser.get(f"/sign-in/oidc?next={quote(following)}")
        [cookie] = [one for one in begun.headers.get_list("set-cookie") if one.startswith("mercato_oidc")]
        assert len(cookie.partition(";")[0]) < 4_096  # what browsers keep
        shown = await come_back(browser, f"/sign-in/oidc?next={quote(following)}")
        assert shown.url.raw_path.decode() == following
