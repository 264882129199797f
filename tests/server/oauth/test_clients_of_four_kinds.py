"""Four kinds of client, each the whole way: asked for, allowed, used in both protocol eras, refreshed, ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from mercato.server.oauth.client_authentication import ASSERTION_TYPE
from mercato.tenancy.clients import ClientKind, add_client
from mercato.tenancy.clients import OAuthClient as StoredClient
from mercato.tenancy.signing import digest
from mercato.tenancy.tenants import Tenant
from mercato.testing.outside import HttpRouter
from tests.server.browser import Browser, forms_of
from tests.server.conftest import Site, legacy, modern
from tests.server.oauth.conftest import owner_of
from tests.server.oauth.flow import OAuthClient, answer_of, register
from tests.server.oauth.outside_world import ADDRESS, Publisher, site_with_outside

REGISTERED = "http://127.0.0.1:9123/callback"
USED = "http://127.0.0.1:51789/callback"
"""The same but for the port, which a program on a person's computer gets anew each time."""
WEB = "https://assistant.example/oauth/callback"


@dataclass
class KeyClient(OAuthClient):
    """A client that proves who it is with its private key, anew each time."""

    key: ECKey = field(default_factory=lambda: new_key())

    async def token(self, **given: str | None) -> httpx.Response:
        now = int(time.time())
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": self.site_url, "iat": now, "exp": now + 60}
        assertion = jwt.encode({"alg": "ES256", "kid": self.key.kid}, claims | {"jti": secrets.token_hex(8)}, self.key)
        return await super().token(client_assertion_type=ASSERTION_TYPE, client_assertion=assertion, **given)


@dataclass
class World:
    """A site, and the outside that it reads documents from."""

    site: Site
    publisher: Publisher


@pytest.fixture(scope="module")
def router() -> HttpRouter:
    return HttpRouter()


@pytest.fixture(scope="module")
async def site(anyio_backend: str, mercato_addresses, router: HttpRouter, tmp_path_factory) -> AsyncIterator[Site]:
    """A site of its own, in the place of the one that the other tests share."""
    async with site_with_outside(mercato_addresses, tmp_path_factory.mktemp("outside"), router) as opened:
        yield opened


@pytest.fixture
def world(site: Site, router: HttpRouter) -> World:
    router.reset()
    return World(site, Publisher(router, f"{secrets.token_hex(4)}.example"))


def new_key() -> ECKey:
    return ECKey.generate_key("P-256", parameters={"kid": secrets.token_hex(4), "use": "sig", "alg": "ES256"})


async def described_by_a_document(world: World) -> OAuthClient:
    client_id = f"https://{world.publisher.host}/client.json"
    document = {"client_id": client_id, "client_name": "Documented", "redirect_uris": [WEB]}
    assert world.publisher.publish("/client.json", document) == client_id
    return OAuthClient(world.site.url, client_id, WEB)


async def registered_with_another_port(world: World) -> OAuthClient:
    information = await register(world.site.url, client_name="Registered", redirect_uris=[REGISTERED])
    return OAuthClient(world.site.url, information["client_id"], USED)


async def static_with_a_secret(world: World, method: str) -> tuple[str, str]:
    client_id, secret = f"desk & co {secrets.token_hex(4)}", secrets.token_urlsafe(24)
    row = StoredClient(
        client_id=client_id,
        kind=ClientKind.STATIC,
        name="Static",
        redirect_uris=[WEB],
        auth_method=method,
        secret_digest=digest(secret),
    )
    await add_client(world.site.runtime.database, row)
    return client_id, secret


async def static_with_basic(world: World) -> OAuthClient:
    client_id, secret = await static_with_a_secret(world, "client_secret_basic")
    encoded = str(httpx.QueryParams({"": client_id})).removeprefix("=")  # as RFC 6749 (2.3.1) has it
    return OAuthClient(world.site.url, client_id, WEB, auth=(encoded, secret))


async def static_with_post(world: World) -> OAuthClient:
    client_id, secret = await static_with_a_secret(world, "client_secret_post")
    return OAuthClient(world.site.url, client_id, WEB, extra={"client_secret": secret})


async def with_a_key_that_it_registered(world: World) -> OAuthClient:
    key = new_key()
    keys = {"keys": [key.as_dict(private=False)]}
    given = {"client_name": "Keyed", "redirect_uris": [WEB], "token_endpoint_auth_method": "private_key_jwt"}
    information = await register(world.site.url, **given, jwks=keys)
    return KeyClient(world.site.url, information["client_id"], WEB, key=key)


async def with_a_key_that_it_publishes(world: World) -> OAuthClient:
    key = new_key()
    keys_at = world.publisher.publish("/keys.json", {"keys": [key.as_dict(private=False)]})
    client_id = f"https://{world.publisher.host}/client.json"
    document = {"client_id": client_id, "client_name": "Publishing", "redirect_uris": [WEB], "jwks_uri": keys_at}
    world.publisher.publish("/client.json", document | {"token_endpoint_auth_method": "private_key_jwt"})
    return KeyClient(world.site.url, client_id, WEB, key=key)


KINDS: dict[str, Callable[[World], Awaitable[OAuthClient]]] = {
    "CIMD public": described_by_a_document,
    "DCR public, another loopback port": registered_with_another_port,
    "static, basic": static_with_basic,
    "static, post": static_with_post,
    "private_key_jwt, registered keys": with_a_key_that_it_registered,
    "private_key_jwt, published keys": with_a_key_that_it_publishes,
}
TICKED = [
    (kind, ["commerce", "probe"] if number % 2 else ["probe"], bool(number % 2)) for number, kind in enumerate(KINDS)
]
"""Little and much, by turns."""


async def modern_result(http: httpx.AsyncClient, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    response = await modern(http, method, params)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()["result"]
    return result


async def legacy_result(http: httpx.AsyncClient, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    result: dict[str, Any] = (await legacy(http, method, params))["result"]
    return result


Ask = Callable[..., Awaitable[dict[str, Any]]]
ERAS: dict[str, Ask] = {"2026-07-28": modern_result, "2025-11-25": legacy_result}


def expected(site: Site, categories: list[str], *, write: bool) -> set[str]:
    """Return the tools that these ticks stand for, for an owner of a tenant with nothing connected."""
    tools = [tool for name in categories for tool in site.runtime.catalog.categories[name].tools]
    return {tool.name for tool in tools if (write or tool.read_only) and not tool.requires}


@pytest.mark.parametrize(("kind", "ticked", "write"), TICKED, ids=KINDS)
async def test_a_client_goes_the_whole_way_and_is_cut_off_when_a_person_ends_it(
    world: World, acme: Tenant, kind: str, ticked: list[str], write: bool
):
    client, site = await KINDS[kind](world), world.site
    async with Browser(site.url) as person:
        answer = await let_in(person, client, await owner_of(site.runtime, acme), ticked, write=write)
        tokens = (await client.redeem(answer["code"])).json()
        verbs = "tools:read tools:write" if write else "tools:read"
        assert tokens["scope"] == f"{verbs} {' '.join(ticked)}"
        for ask in ERAS.values():
            await use(ask, site, tokens["access_token"], acme, expected(site, ticked, write=write))

        refreshed = (await client.refresh(tokens["refresh_token"])).json()
        assert refreshed["scope"] == tokens["scope"]
        assert refreshed["refresh_token"] != tokens["refresh_token"]
        await use(modern_result, site, refreshed["access_token"], acme, expected(site, ticked, write=write))

        await end_on_the_page(person)
        for era in ERAS:
            await cut_off(site, refreshed["access_token"], era)
        refused = await client.refresh(refreshed["refresh_token"])
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def let_in(person: Browser, client: OAuthClient, email: str, ticked: list[str], *, write: bool) -> dict[str, str]:
    """Come from the client, sign in, and decide."""
    page = await person.get(client.address())
    assert page.url.path == "/sign-in"
    consent = await person.sign_in(email, page=page)
    assert consent.url.path == "/authorize"
    assert httpx.URL(client.redirect_uri).host in consent.text
    given = {"category": ticked, "write": "yes" if write else None}
    answer = answer_of(await person.send(consent, "/authorize", decision="allow", **given))
    assert (answer["state"], answer["iss"]) == (client.state, client.site_url)
    return answer


async def use(ask: Ask, site: Site, token: str, tenant: Tenant, tools: set[str]) -> None:
    """List exactly these tools, and call one."""
    async with site.client(token) as http:
        listed = await ask(http, "tools/list")
        assert {tool["name"] for tool in listed["tools"]} == tools
        said = await ask(http, "tools/call", {"name": "echo", "arguments": {"text": "hello"}})
        assert said["structuredContent"] == {"text": f"{tenant.slug}: hello"}


async def end_on_the_page(person: Browser) -> None:
    page = await person.get("/clients")
    [revoke] = [form.action for form in forms_of(page) if form.action.endswith("/revoke")]
    ended = await person.send(page, revoke)
    assert "has no access any more" in ended.text
    assert not [form for form in forms_of(ended) if form.action.endswith("/revoke")]


async def cut_off(site: Site, token: str, era: str) -> None:
    """The next call is refused, in a way that leads the client to ask the person again."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    async with site.client(token) as http:
        if era == "2025-11-25":
            refused = await http.post("/mcp", json=body, headers={"mcp-protocol-version": era})
        else:
            refused = await modern(http, "tools/list")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == (
        'Bearer realm="mercato", error="invalid_token", '
        f'resource_metadata="{site.url}/.well-known/oauth-protected-resource/mcp", scope="tools:read tools:write"'
    )


async def test_a_document_is_read_by_name_at_the_address_that_was_checked(world: World, acme: Tenant):
    client = await described_by_a_document(world)
    async with Browser(world.site.url) as person:
        await person.get(client.address())
    [request] = world.publisher.router.requests
    assert request.url == f"https://{ADDRESS}/client.json"
    assert request.headers["host"] == world.publisher.host
    assert request.extensions["sni_hostname"] == world.publisher.host


async def test_a_client_that_signs_with_another_key_gets_nothing(world: World, acme: Tenant):
    client = await with_a_key_that_it_publishes(world)
    async with Browser(world.site.url) as person:
        answer = await let_in(person, client, await owner_of(world.site.runtime, acme), ["probe"], write=False)
    stranger = KeyClient(world.site.url, client.client_id, WEB, verifier=client.verifier)
    refused = await stranger.redeem(answer["code"])
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert (await client.redeem(answer["code"])).status_code == 200


async def test_a_client_whose_keys_cannot_be_read_just_now_is_told_to_try_again(
    world: World, router: HttpRouter, acme: Tenant, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mercato.server.oauth.client_authentication._KEYS_ASKED_EVERY_S", 0)
    key, path = new_key(), f"/{secrets.token_hex(4)}"
    client_id = f"https://{world.publisher.host}{path}/client.json"
    document = {"client_id": client_id, "client_name": "Resting", "redirect_uris": [WEB]}
    keys_at = f"https://{world.publisher.host}{path}/keys.json"
    world.publisher.publish(
        f"{path}/client.json", document | {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": keys_at}
    )
    keys = f"https://{ADDRESS}{path}/keys.json"
    router.on("GET", keys, status=503)
    client = KeyClient(world.site.url, client_id, WEB, key=key)
    async with Browser(world.site.url) as person:
        answer = await let_in(person, client, await owner_of(world.site.runtime, acme), ["probe"], write=False)
    waiting = await client.redeem(answer["code"])
    assert (waiting.status_code, waiting.json()["error"]) == (503, "temporarily_unavailable")
    router._answers.pop(("GET", keys))
    router.on("GET", keys, json={"keys": [key.as_dict(private=False)]})
    assert (await client.redeem(answer["code"])).status_code == 200
