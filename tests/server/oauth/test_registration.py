"""Clients that register themselves: what they may have, and that they cannot fill the table."""

from __future__ import annotations

import httpx
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.clients import UNUSED_FOR, ClientKind, OAuthClient, add_client, find_client
from mercato.tenancy.rows import utc_now
from tests.server.oauth.conftest import owner_in, settle
from tests.server.oauth.flow import assert_refused, connect, public_client, register


@pytest.fixture
async def acme(site):
    return await settle(site)


@pytest.fixture
async def ada(site, acme):
    async with owner_in(site, acme) as browser:
        yield browser


async def tried(site, body=None, **metadata):
    """Try to register."""
    given = {"client_name": "Probe", "redirect_uris": ["https://client.example/callback"], **metadata}
    sent = {"content": body} if body is not None else {"json": given}
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        return await http.post("/register", headers={"accept": "text/html"}, **sent)


async def how_many(site) -> int:
    async with site.runtime.database.system() as session:
        registered = col(OAuthClient.kind) == ClientKind.REGISTERED
        return (await session.exec(sa.select(sa.func.count()).where(registered))).scalar_one()


REDIRECTS = [
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "\tjavascript:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "blob:https://client.example/x",
    "http://client.example/callback",
    "http://127.0.0.1.evil.example/callback",
    "http://127.0.0.1@evil.example/callback",
    "http://10.0.0.1/callback",
    "https://user@client.example/callback",
    "https://*.client.example/callback",
    "https://client.example/callback#fragment",
    "https://client.example/ callback",
    "https://client.example\\callback",
    'https://client.example/"><script>',
    "https://clïent.example/callback",
    "https://client.example;sandbox/callback",
    "https://client.example,default-src/callback",
    "https://client.example'none'/callback",
    "https://client.example:port/callback",
    "https:///callback",
    "//client.example/callback",
    "/callback",
    "",
    "unlisted://callback",
    "https://client.example/" + "a" * 2_000,
    7,
    None,
]


@pytest.mark.parametrize("uri", REDIRECTS, ids=lambda uri: str(uri)[:40])
async def test_a_redirect_that_could_run_or_leak_is_refused(site, uri):
    before = await how_many(site)
    assert_refused(await tried(site, redirect_uris=[uri]), "invalid_redirect_uri")
    if uri != "unlisted://callback":
        good = "https://client.example/callback"
        assert_refused(await tried(site, redirect_uris=[good, uri]), "invalid_redirect_uri")
    assert await how_many(site) == before


METADATA = {
    "no redirects": ({"redirect_uris": None}, "invalid_redirect_uri"),
    "redirects that are none": ({"redirect_uris": []}, "invalid_redirect_uri"),
    "redirects that are a text": ({"redirect_uris": "https://client.example/"}, "invalid_redirect_uri"),
    "too many redirects": ({"redirect_uris": [f"https://a.example/{n}" for n in range(21)]}, "invalid_redirect_uri"),
    "an unknown way to authenticate": ({"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"),
    "a way that is no text": ({"token_endpoint_auth_method": ["none"]}, "invalid_client_metadata"),
    "an implicit grant only": ({"grant_types": ["implicit"]}, "invalid_client_metadata"),
    "grants that are a text": ({"grant_types": "authorization_code"}, "invalid_client_metadata"),
    "tokens as an answer only": ({"response_types": ["token"]}, "invalid_client_metadata"),
    "no key": ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
    "a secret key": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "oct", "k": "AA"}]}},
        "invalid_client_metadata",
    ),
    "a private key": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "RSA", "n": "A", "d": "A"}]}},
        "invalid_client_metadata",
    ),
    "keys that are too long": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "RSA", "n": "A" * 10_000}]}},
        "invalid_client_metadata",
    ),
    "keys that no database holds": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "RSA", "n": "\0"}]}},
        "invalid_client_metadata",
    ),
    "an address of keys that no database holds": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://client.example/\0"},
        "invalid_client_metadata",
    ),
    "keys at http": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://client.example/keys"},
        "invalid_client_metadata",
    ),
}


@pytest.mark.parametrize("why", METADATA)
async def test_metadata_that_says_something_wrong_is_refused_and_stored_nowhere(site, why):
    changed, error = METADATA[why]
    before = await how_many(site)
    assert_refused(await tried(site, **changed), error)
    assert await how_many(site) == before


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b"null", b"\xff", b'{"a": ' + b"[" * 5_000, b" " * 40_000])
async def test_a_body_that_is_no_json_object_is_refused(site, body):
    assert_refused(await tried(site, body), "invalid_client_metadata")


async def test_a_name_is_shown_on_one_line_and_hides_nothing(site):
    name = "  Claude\n\u202e\u200b\x00\x1b[31m\u2028 by\tus " + "x" * 200
    information = await register(site.url, client_name=name)
    assert information["client_name"].startswith("Claude [31m by us x")
    assert len(information["client_name"]) == 100


async def test_what_cannot_be_understood_is_left_out_and_the_answer_says_what_was_taken(site):
    information = await register(
        site.url,
        redirect_uris=["https://client.example/callback", "unlisted://callback", "cursor://callback"],
        grant_types=["authorization_code", "urn:something:else"],
        client_uri="javascript:alert(1)",
        scope="everything",
        software_statement="eyJ",
        client_id="mcc_mine",
        client_secret="mine",
    )
    assert information["redirect_uris"] == ["https://client.example/callback", "cursor://callback"]
    assert information["grant_types"] == ["authorization_code", "refresh_token"]
    assert information["client_id"] != "mcc_mine"
    assert not {"client_uri", "client_secret", "software_statement"} & information.keys()


async def test_a_secret_is_shown_once_and_stored_as_a_hash(site):
    information = await register(site.url, token_endpoint_auth_method="client_secret_basic")
    stored = await find_client(site.runtime.database, information["client_id"])
    assert information["client_secret"] not in repr(stored)
    assert len(stored.secret_digest) == 32


async def test_a_flood_of_registrations_does_not_fill_the_table_nor_push_out_who_is_in_use(site, ada, monkeypatch):
    in_use = await public_client(site.url)
    tokens = await connect(ada, in_use, category=["probe"])
    static = OAuthClient(
        client_id=f"static-{in_use.client_id}",
        kind=ClientKind.STATIC,
        name="Ours",
        redirect_uris=[],
        auth_method="none",
    )
    await add_client(site.runtime.database, static)
    monkeypatch.setattr("mercato.tenancy.clients.MOST_UNUSED", 10)
    monkeypatch.setattr("mercato.tenancy.clients.REAPED_EVERY", 1)
    flood = [(await tried(site)).json()["client_id"] for _ in range(40)]
    unused = [client_id for client_id in flood if await find_client(site.runtime.database, client_id)]
    assert unused == flood[-10:]
    assert await find_client(site.runtime.database, static.client_id) is not None
    assert (await in_use.refresh(tokens["refresh_token"])).status_code == 200


async def test_who_was_allowed_nothing_within_a_day_is_forgotten_at_the_next_clean_up(site, ada, monkeypatch):
    monkeypatch.setattr("mercato.tenancy.clients.REAPED_EVERY", 1)
    forgotten, in_use = await public_client(site.url), await public_client(site.url)
    await connect(ada, in_use, category=["probe"])
    both = col(OAuthClient.client_id).in_([forgotten.client_id, in_use.client_id])
    async with site.runtime.database.system() as session:
        long_ago = utc_now() - 2 * UNUSED_FOR
        await session.exec(sa.update(OAuthClient).where(both).values(created_at=long_ago, last_used_at=long_ago))
    await register(site.url)
    assert await find_client(site.runtime.database, forgotten.client_id) is None
    assert await find_client(site.runtime.database, in_use.client_id) is not None
