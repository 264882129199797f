"""Access tokens: what they are good for, and every way in which one is not."""

from __future__ import annotations

import base64
import hmac
import time
from datetime import timedelta

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from mercato.server.oauth.tokens import AccessTokens
from mercato.server.site import Site as Addresses
from mercato.tenancy.client_grants import Granted
from mercato.tenancy.rows import utc_now
from tests.server.conftest import envelope, modern
from tests.server.oauth.conftest import owner_in, settle
from tests.server.oauth.flow import allow, called, connect, public_client
from tests.server.probe import probe


@pytest.fixture(scope="module")
async def acme(site):
    return await settle(site)


@pytest.fixture(scope="module")
async def ada(site, acme):
    async with owner_in(site, acme) as browser:
        yield browser


@pytest.fixture(scope="module")
async def client(site):
    return await public_client(site.url)


@pytest.fixture(scope="module")
async def good(ada, client):
    """A good token, with which the others begin."""
    return (await connect(ada, client, category=["probe"]))["access_token"]


def part(data) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(data)).rstrip(b"=").decode()


def parts_of(token):
    return [orjson.loads(base64.urlsafe_b64decode(text + "==")) for text in token.split(".")[:2]]


async def signed_anew(site, token, key=None, header=None, **changed):
    """Return a token with other claims or another header, signed with our own key or another; None leaves one out."""
    headers, claims = parts_of(token)
    claims = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    headers = {name: value for name, value in {**headers, **(header or {})}.items() if value is not None}
    key = key or await site.runtime.oauth.keys.signing()
    return jwt.encode(headers, claims, key, algorithms=["RS256", "ES256"])


async def test_a_token_is_a_jwt_of_rfc_9068_for_its_resource_and_nothing_more(site, acme, good):
    headers, claims = parts_of(good)
    assert headers.keys() == {"alg", "typ", "kid"}
    assert (headers["alg"], headers["typ"]) == ("RS256", "at+jwt")
    assert (claims["iss"], claims["aud"]) == (site.url, f"{site.url}/mcp")
    assert (claims["tenant"], claims["scope"]) == (str(acme.id), "tools:read probe")
    assert claims["exp"] - claims["iat"] == 3600
    assert {"sub", "client_id", "jti", "grant"} <= claims.keys()
    assert (await called(site, good)).status_code == 200
    assert (await called(site, await signed_anew(site, good))).status_code == 200


async def of_no_algorithm(site, good):
    headers, claims = parts_of(good)
    return f"{part({**headers, 'alg': 'none'})}.{part(claims)}."


async def of_no_algorithm_with_the_signature(site, good):
    headers, claims = parts_of(good)
    return f"{part({**headers, 'alg': 'None'})}.{part(claims)}.{good.split('.')[2]}"


async def signed_with_the_public_key_as_a_secret(site, good):
    headers, claims = parts_of(good)
    public = (await site.runtime.oauth.keys.signing()).as_pem(private=False)
    text = f"{part({**headers, 'alg': 'HS256'})}.{part(claims)}"
    return f"{text}.{base64.urlsafe_b64encode(hmac.digest(public, text.encode(), 'sha256')).rstrip(b'=').decode()}"


async def signed_with_the_public_jwk_as_a_secret(site, good):
    headers, claims = parts_of(good)
    public = orjson.dumps((await site.runtime.oauth.keys.public())[0])
    text = f"{part({**headers, 'alg': 'HS256'})}.{part(claims)}"
    return f"{text}.{base64.urlsafe_b64encode(hmac.digest(public, text.encode(), 'sha256')).rstrip(b'=').decode()}"


async def signed_with_another_key_under_our_id(site, good):
    return await signed_anew(site, good, key=RSAKey.generate_key(2048))


async def signed_with_a_key_that_it_brings_along(site, good):
    key = RSAKey.generate_key(2048)
    return await signed_anew(site, good, key=key, header={"jwk": key.as_dict(private=False)})


async def signed_with_a_key_at_an_address_that_it_names(site, good):
    return await signed_anew(site, good, key=RSAKey.generate_key(2048), header={"jku": "https://evil.example/jwks"})


async def signed_on_another_curve(site, good):
    return await signed_anew(site, good, key=ECKey.generate_key("P-256"), header={"alg": "ES256"})


async def with_another_signature(site, good):
    head, claims, signature = good.split(".")
    return f"{head}.{claims}.{signature[:-8]}AAAAAAAA"


async def with_other_claims_under_the_same_signature(site, good):
    head, _, signature = good.split(".")
    return f"{head}.{part({**parts_of(good)[1], 'scope': 'tools:read tools:write probe'})}.{signature}"


async def of_an_unknown_kid(site, good):
    return await signed_anew(site, good, header={"kid": "unknown"})


async def of_no_kid(site, good):
    return await signed_anew(site, good, header={"kid": None})


async def of_a_kid_that_is_no_text(site, good):
    headers, claims = parts_of(good)
    return f"{part({**headers, 'kid': 7})}.{part(claims)}.{good.split('.')[2]}"


async def of_another_type(site, good):
    return await signed_anew(site, good, header={"typ": "JWT"})


async def of_another_issuer(site, good):
    return await signed_anew(site, good, iss="https://elsewhere.example")


async def minted_for_another_site_with_our_key(site, good):
    elsewhere = AccessTokens(site.runtime.oauth.keys, Addresses("https://elsewhere.example", "127.0.0.1", 8765))
    claims = parts_of(good)[1]
    grant = Granted(int(claims["grant"]), int(claims["tenant"]), int(claims["sub"]), claims["client_id"], (), "")
    key = await site.runtime.oauth.keys.signing()
    return elsewhere.mint(key, grant, ["tools:read", "probe"], f"{site.url}/mcp")


async def that_has_expired(site, good):
    return await signed_anew(site, good, exp=int(time.time()) - 1)


async def that_expires_at_no_time(site, good):
    return await signed_anew(site, good, exp="never")


async def that_never_expires(site, good):
    return await signed_anew(site, good, exp=None)


async def for_another_host(site, good):
    return await signed_anew(site, good, aud="https://elsewhere.example/mcp")


async def for_the_issuer_itself(site, good):
    return await signed_anew(site, good, aud=site.url)


async def for_a_host_that_begins_alike(site, good):
    return await signed_anew(site, good, aud=f"{site.url}.evil.example/mcp")


async def for_nobody(site, good):
    return await signed_anew(site, good, aud=None)


async def of_no_grant(site, good):
    return await signed_anew(site, good, grant=None)


async def of_a_grant_that_is_not_there(site, good):
    return await signed_anew(site, good, grant=str(2**62))


async def that_is_far_too_long(site, good):
    return await signed_anew(site, good, more="x" * 9_000)


async def that_is_no_jwt(site, good):
    return good.replace(".", "")


async def with_a_fourth_part(site, good):
    return f"{good}.{good.split('.')[2]}"


NOT_GOOD = [
    of_no_algorithm,
    of_no_algorithm_with_the_signature,
    signed_with_the_public_key_as_a_secret,
    signed_with_the_public_jwk_as_a_secret,
    signed_with_another_key_under_our_id,
    signed_with_a_key_that_it_brings_along,
    signed_with_a_key_at_an_address_that_it_names,
    signed_on_another_curve,
    with_another_signature,
    with_other_claims_under_the_same_signature,
    of_an_unknown_kid,
    of_no_kid,
    of_a_kid_that_is_no_text,
    of_another_type,
    of_another_issuer,
    minted_for_another_site_with_our_key,
    that_has_expired,
    that_expires_at_no_time,
    that_never_expires,
    for_another_host,
    for_the_issuer_itself,
    for_a_host_that_begins_alike,
    for_nobody,
    of_no_grant,
    of_a_grant_that_is_not_there,
    that_is_far_too_long,
    that_is_no_jwt,
    with_a_fourth_part,
]


@pytest.mark.parametrize("make", NOT_GOOD, ids=lambda make: make.__name__)
async def test_a_token_that_is_not_good_is_401_and_says_where_to_sign_in(site, good, make):
    response = await called(site, await make(site, good))
    assert response.status_code == 401, response.text
    assert response.json()["error"] == "invalid_token"
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="mercato", error="invalid_token"')
    assert f'resource_metadata="{site.url}/.well-known/oauth-protected-resource/mcp"' in challenge


async def test_a_token_that_expires_while_it_is_remembered_is_refused_at_once(site, good, monkeypatch):
    token = await signed_anew(site, good, exp=int(time.time()) + 60)
    assert (await called(site, token)).status_code == 200
    monkeypatch.setattr("mercato.server.auth.directory.utc_now", lambda: utc_now() + timedelta(seconds=61))
    assert (await called(site, token)).status_code == 401


async def test_a_token_cannot_reach_beyond_what_its_grant_holds(site, good):
    token = await signed_anew(site, good, scope="tools:read tools:write probe commerce system", tenant="1", sub="1")
    async with site.client(token) as http:
        listed = (await modern(http, "tools/list")).json()["result"]["tools"]
        said = (await modern(http, "tools/call", {"name": "echo", "arguments": {}})).json()["result"]
    names = {tool["name"] for tool in listed}
    assert "echo" in names
    assert not names & {"change", "wipe", "list_orders"}
    assert said["structuredContent"]["text"].startswith("acme-")


async def test_an_address_reaches_no_further_than_it_says_whatever_the_token_holds(site, acme, ada, client):
    tokens = await connect(ada, client, category=["probe", "commerce"], write="yes")
    names = {}
    for path in ("/mcp", "/mcp/readonly", "/mcp/x/probe"):
        listed = (await called(site, tokens["access_token"], path)).json()["result"]["tools"]
        names[path] = {tool["name"] for tool in listed}
    assert {"change", "echo", "list_orders"} <= names["/mcp"]
    assert "echo" in names["/mcp/readonly"]
    assert not {"change", "wipe"} & names["/mcp/readonly"]
    assert names["/mcp/x/probe"] == {tool for tool in names["/mcp"] if tool in PROBE}
    key = await site.key(acme)
    for token in (tokens["access_token"], key):
        for path, tool in (("/mcp/readonly", "change"), ("/mcp/x/commerce", "echo"), ("/mcp/x/probe", "list_orders")):
            body, headers = envelope("tools/call", {"name": tool, "arguments": {}})
            async with site.client(token) as http:
                response = await http.post(path, json=body, headers=headers)
            assert response.status_code != 403, (path, tool)
            assert "error" in response.json(), (path, tool)


PROBE = {tool.name for tool in probe.tools}

NARROW = ["/mcp/readonly", "/mcp/x/probe", "/mcp/readonly/x/probe", "/mcp/x/probe/readonly", "/mcp/x/probe,commerce"]


@pytest.mark.parametrize("path", NARROW)
async def test_a_token_for_all_serves_what_is_narrower(site, good, path):
    assert (await called(site, good, path)).status_code == 200


@pytest.mark.parametrize("path", NARROW)
async def test_a_token_for_what_is_narrower_serves_only_that(site, ada, client, path):
    resource = f"{site.url}{path}"
    answer = await allow(ada, client, resource=resource)
    token = (await client.redeem(answer["code"], resource=resource)).json()["access_token"]
    assert parts_of(token)[1]["aud"] == resource
    assert (await called(site, token, path)).status_code == 200
    wider = {"/mcp", "/mcp/readonly", "/mcp/x/probe", "/mcp/x/commerce"} - {path}
    for other in wider:
        assert (await called(site, token, other)).status_code == 401, other
    assert (await called(site, token, f"{path}x")).status_code in {401, 404}


async def test_a_code_for_all_may_be_redeemed_for_what_is_narrower(site, ada, client):
    answer = await allow(ada, client)
    tokens = (await client.redeem(answer["code"], resource=f"{site.url}/mcp/readonly")).json()
    assert (await called(site, tokens["access_token"])).status_code == 401
    assert (await called(site, tokens["access_token"], "/mcp/readonly")).status_code == 200
    again = (await client.refresh(tokens["refresh_token"])).json()
    assert (await called(site, again["access_token"])).status_code == 200


@pytest.mark.parametrize("name", ["localhost", "[::1]"])
async def test_a_token_for_another_name_of_this_computer_is_good_at_every_one(site, ada, client, name):
    resource = f"{site.url.replace('127.0.0.1', name)}/mcp"
    answer = await allow(ada, client, resource=resource)
    token = (await client.redeem(answer["code"], resource=resource)).json()["access_token"]
    assert parts_of(token)[1]["aud"] == resource
    assert (await called(site, token)).status_code == 200


@pytest.mark.parametrize("spelling", ["HTTP://127.0.0.1:{port}/mcp", "http://127.0.0.1:{port}/mcp/"])
async def test_a_resource_that_is_spelled_otherwise_is_the_same(site, ada, client, spelling):
    resource = spelling.format(port=site.url.rpartition(":")[2])
    answer = await allow(ada, client, resource=resource)
    token = (await client.redeem(answer["code"], resource=resource)).json()["access_token"]
    assert parts_of(token)[1]["aud"] == f"{site.url}/mcp"


@pytest.mark.parametrize("header", ["Bearer", "bearer x", "Basic YTpi", "Bearer a b", "mck_x"])
async def test_what_is_no_bearer_token_is_401(site, header):
    async with site.client(None) as http:
        http.headers["authorization"] = header
        response = await modern(http, "tools/list")
    assert response.status_code == 401
    assert "resource_metadata=" in response.headers["www-authenticate"]


async def test_a_token_in_the_address_is_no_token(site, good):
    async with site.client(None) as http:
        response = await http.post(f"/mcp?access_token={good}", json={})
    assert response.status_code == 401
