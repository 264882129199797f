"""Clients that are described by a document: what is read, from where, and for how long it is believed."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import anyio
import httpx
import orjson
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.server.oauth import documents, outside
from mercato.server.oauth.clients import Clients
from mercato.server.oauth.documents import ClientDocuments, is_document_id
from mercato.server.oauth.errors import OAuthError
from mercato.server.oauth.outside import Outside
from mercato.tenancy.clients import ClientKind, OAuthClient, add_client, find_client
from mercato.tenancy.rows import utc_now
from mercato.testing.outside import HttpRouter
from tests.server.oauth.flow import OAuthClient as Program
from tests.server.oauth.outside_world import ADDRESS, Publisher, site_with_outside
from tests.server.oauth.world import PUBLIC, World

resolve_by_name = outside._resolve
_number = iter(range(1_000_000))


@pytest.fixture
def world():
    return World()


@pytest.fixture
async def clients(database, world):
    """Clients as a fresh process looks them up."""
    reads = Outside(world, world.resolve)
    yield Clients(database, ClientDocuments(database, reads, frozenset({"cursor"})))
    await reads.aclose()


@pytest.fixture
def url():
    return f"https://client.example/{next(_number)}/client.json"


def document_of(url, **changed):
    given = {"client_id": url, "client_name": "Probe", "redirect_uris": ["https://client.example/callback"], **changed}
    return {name: value for name, value in given.items() if value is not None}


async def made_stale(database, url):
    late = sa.update(OAuthClient).where(col(OAuthClient.client_id) == url)
    async with database.system() as session:
        await session.exec(late.values(fresh_until=utc_now() - timedelta(days=30)))


async def fresh_for(database, url):
    return ((await find_client(database, url)).fresh_until - utc_now()).total_seconds()


async def test_a_document_makes_a_client_that_is_read_once(clients, world, url):
    world.publishes(document_of(url))
    client = await clients.find(url)
    assert (client.client_id, client.kind, client.name, client.auth_method) == (url, "document", "Probe", "none")
    assert client.redirect_uris == ["https://client.example/callback"]
    await clients.find(url)
    [request] = world.requests
    assert (request.url.host, request.headers["host"]) == (PUBLIC, "client.example")
    assert request.extensions["sni_hostname"] == "client.example"
    assert not {"cookie", "authorization"} & set(request.headers)


NO_IDS = [
    "http://client.example/a",
    "https://client.example",
    "https://client.example/",
    "https://client.example/a/../b",
    "https://client.example/./a",
    "https://client.example/a/%2e%2E/b",
    "https://client.example/a#b",
    "https://user@client.example/a",
    "https://user:password@client.example/a",
    "https://client.example:x/a",
    "https://client.example/a b",
    "https://client.example\\@evil.example/a",
    "https://clïent.example/a",
    "https:///a",
    "HTTPS://client.example/a",
    "https://client.example/" + "a" * 500,
]


@pytest.mark.parametrize("client_id", NO_IDS)
async def test_an_id_that_is_no_plain_address_is_nobodys_and_is_not_called(clients, world, client_id):
    assert not is_document_id(client_id)
    with pytest.raises(OAuthError) as refusal:
        await clients.find(client_id)
    assert refusal.value.code == "invalid_client"
    assert (world.requests, world.resolved) == ([], 0)


REFUSED = {
    "another client_id": {"client_id": "https://client.example/other.json"},
    "a client_id that is its own but for a slash": {"client_id": "https://client.example/client.json/"},
    "no client_id": {"client_id": None},
    "a secret": {"client_secret": "hush"},
    "a secret to authenticate with": {"token_endpoint_auth_method": "client_secret_basic"},
    "a secret to post": {"token_endpoint_auth_method": "client_secret_post"},
    "no name": {"client_name": None},
    "a name that is no text": {"client_name": 7},
    "no redirects": {"redirect_uris": None},
    "redirects that are none": {"redirect_uris": []},
    "a redirect that runs": {"redirect_uris": ["javascript:alert(1)"]},
    "a redirect that is http": {"redirect_uris": ["http://client.example/callback"]},
    "a key that is private": {
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [{"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "d": "d"}]},
    },
    "no key": {"token_endpoint_auth_method": "private_key_jwt"},
    "keys at http": {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://client.example/keys"},
}


@pytest.mark.parametrize("why", REFUSED)
async def test_a_document_that_says_something_wrong_makes_no_client(clients, database, world, url, why):
    world.publishes(document_of(url, **REFUSED[why]))
    await assert_no_client(clients, database, url)


BODIES = [b"", b"not JSON", b"[]", b"null", b'"text"', b"{" * 2_000, b"\xff\xfe", b'{"client_id": NaN}']


@pytest.mark.parametrize("body", BODIES)
async def test_what_is_no_json_object_makes_no_client(clients, database, world, url, body):
    world.publishes(body)
    await assert_no_client(clients, database, url)


async def assert_no_client(clients, database, url):
    with pytest.raises(OAuthError) as refusal:
        await clients.find(url)
    assert refusal.value.code == "invalid_client"
    assert await find_client(database, url) is None


@pytest.mark.parametrize("status", [201, 204, 301, 302, 303, 307, 308, 304, 400, 404, 500])
async def test_no_redirect_is_followed_and_only_200_is_read(clients, database, world, url, status):
    good = orjson.dumps(document_of(url))
    world.answer = httpx.Response(status, content=good, headers={"location": "https://127.0.0.1/secret"})
    await assert_no_client(clients, database, url)
    assert len(world.requests) == 1


async def test_a_document_may_have_5_kb_and_no_more(clients, database, world, url):
    body = orjson.dumps(document_of(url))
    world.publishes(body.ljust(5 * 1024 + 1))
    await assert_no_client(clients, database, url)
    world.publishes(body.ljust(5 * 1024))
    assert (await Outside(world, world.resolve).read(url)).body.strip() == body


async def test_a_compressed_answer_is_refused(clients, database, world, url):
    world.answer = httpx.Response(200, stream=httpx.ByteStream(b"x"), headers={"content-encoding": "gzip"})
    await assert_no_client(clients, database, url)


async def test_a_source_that_failed_is_not_asked_again_at_once(clients, world, url, monkeypatch):
    world.answer = httpx.ConnectError("refused")
    for _ in range(3):
        with pytest.raises(OAuthError):
            await clients.find(url)
    assert len(world.requests) == 1
    world.publishes(document_of(url))
    monkeypatch.setattr(documents, "utc_now", lambda: utc_now() + documents.FAILED_FOR)
    assert (await clients.find(url)).client_id == url


FAILURES = [
    httpx.ConnectError("refused"),
    httpx.Response(500),
    httpx.Response(404),
    httpx.Response(200, content=b"<html>"),
    httpx.Response(200, content=b'{"client_id": "https://evil.example/x"}'),
    httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
]


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_what_was_read_before_serves_while_the_source_is_down(clients, database, world, url, failure):
    world.publishes(document_of(url, client_name="Before"))
    await clients.find(url)
    await made_stale(database, url)
    world.answer = failure
    for _ in range(2):
        assert (await clients.find(url)).name == "Before"
    assert len(world.requests) == 2


async def test_what_was_read_before_serves_when_its_name_becomes_private(clients, database, world, url):
    world.publishes(document_of(url, client_name="Before"))
    await clients.find(url)
    await made_stale(database, url)
    world.addresses = ["127.0.0.1"]
    assert (await clients.find(url)).name == "Before"
    assert len(world.requests) == 1


async def test_a_document_that_changed_counts_once_it_is_stale(clients, database, world, url):
    world.publishes(document_of(url))
    await clients.find(url)
    world.publishes(document_of(url, redirect_uris=["https://client.example/new"]))
    assert (await clients.find(url)).redirect_uris == ["https://client.example/callback"]
    await made_stale(database, url)
    assert (await clients.find(url)).redirect_uris == ["https://client.example/new"]


async def test_an_unchanged_document_is_not_sent_again(clients, database, world, url):
    world.publishes(document_of(url), etag='"one"')
    await clients.find(url)
    await made_stale(database, url)
    world.answer = httpx.Response(304, headers={"etag": '"one"', "cache-control": "max-age=600"})
    assert (await clients.find(url)).name == "Probe"
    assert "if-none-match" not in world.requests[0].headers
    assert world.requests[1].headers["if-none-match"] == '"one"'
    assert 590 < await fresh_for(database, url) <= 600


CACHED = [
    ({}, 3_600),
    ({"cache-control": "max-age=600"}, 600),
    ({"cache-control": "public, MAX-AGE=7200, immutable"}, 7_200),
    ({"cache-control": "max-age=1"}, 300),
    ({"cache-control": "max-age=999999999"}, 86_400),
    ({"cache-control": "no-store, max-age=600"}, 300),
    ({"cache-control": "no-cache"}, 300),
    ({"cache-control": "max-age=never"}, 3_600),
]


@pytest.mark.parametrize(("headers", "seconds"), CACHED)
async def test_a_document_is_kept_as_its_headers_say_within_bounds(clients, database, world, url, headers, seconds):
    world.publishes(document_of(url), **headers)
    await clients.find(url)
    assert seconds - 10 < await fresh_for(database, url) <= seconds


async def test_a_document_cannot_take_the_place_of_the_operators_client(clients, database, world, url):
    static = OAuthClient(
        client_id=url, kind=ClientKind.STATIC, name="Ours", redirect_uris=["https://ours.example/"], auth_method="none"
    )
    await add_client(database, static)
    world.publishes(document_of(url))
    assert (await clients.find(url)).name == "Ours"
    assert world.requests == []


async def test_text_that_no_database_holds_makes_no_client(clients, database, world, url):
    keys = {"keys": [{"kty": "EC", "crv": "P-256", "x": "\0", "y": "y"}]}
    world.publishes(document_of(url, token_endpoint_auth_method="private_key_jwt", jwks=keys))
    await assert_no_client(clients, database, url)


@pytest.fixture(scope="module")
async def open_site(mercato_addresses, tmp_path_factory):
    router = HttpRouter()
    async with site_with_outside(mercato_addresses, tmp_path_factory.mktemp("outside"), router) as site:
        yield site, router


async def test_a_person_is_told_where_a_document_cannot_be_used_and_is_sent_nowhere(open_site):
    site, router = open_site
    published = Publisher(router, "evil.example").publish("/evil.json", {"client_id": "https://good.example/a.json"})
    program = Program(site.url, published, "https://evil.example/callback")
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        response = await http.get(program.address(), headers={"accept": "text/html"})
    assert response.status_code == 400
    assert "location" not in response.headers
    assert "Its `client_id` is not its own address." in response.text.replace("&#39;", "'")
    assert [str(request.url) for request in router.requests] == [f"https://{ADDRESS}/evil.json"]
    refused = await program.redeem("code")
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


async def test_a_document_whose_name_is_this_computer_is_not_read_by_a_site(open_site, monkeypatch):
    site, router = open_site
    router.requests.clear()
    program = Program(site.url, "https://127.0.0.1/client.json", "https://evil.example/callback")
    reads = site.runtime.oauth.clients._documents._outside
    monkeypatch.setattr(reads, "_resolve", partial(resolve_by_name, reads._lookups))
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        response = await http.get(program.address(), headers={"accept": "text/html"})
    assert response.status_code == 400
    assert "is not a public address" in response.text
    assert router.requests == []


async def test_a_crowd_that_connects_a_new_client_reads_its_document_once_and_all_of_it_gets_in(clients, world, url):
    world.publishes(document_of(url))
    found = []

    async def connect():
        found.append(await clients.find(url))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(connect)
    assert [client.name for client in found] == ["Probe"] * 20
    assert len(world.requests) == 1


async def test_a_client_that_was_never_read_is_not_read_for_a_token(clients, world, url):
    world.publishes(document_of(url))
    with pytest.raises(OAuthError, match="unknown"):
        await clients.find(url, new=False)
    assert world.requests == []


async def test_a_document_that_is_read_again_after_days_without_a_grant_stays(
    clients, database, world, url, monkeypatch
):
    monkeypatch.setattr("mercato.tenancy.clients.REAPED_EVERY", 1)
    world.publishes(document_of(url))
    await clients.find(url)
    late = sa.update(OAuthClient).where(col(OAuthClient.client_id) == url)
    async with database.system() as session:
        days_ago = utc_now() - timedelta(days=3)
        await session.exec(late.values(created_at=days_ago, fresh_until=days_ago))
    assert (await clients.find(url)).name == "Probe"
