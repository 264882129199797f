"""The documents that clients read first, and that no Host decides what is in them."""

from __future__ import annotations

import httpx
import pytest
from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata

from mercato.plugins.manager import discover
from mercato.server.app import create_app
from mercato.server.settings import Settings
from tests.server import probe
from tests.server.browser import Browser
from tests.server.conftest import envelope, listening
from tests.server.oauth.conftest import owner_of, settle
from tests.server.oauth.flow import answer_of, public_client

PUBLIC = "https://mcp.shop.example"


async def got(site, path, **headers):
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        return await http.get(path, headers=headers)


@pytest.fixture(scope="module")
async def public_site(mercato_addresses, tmp_path_factory):
    """A site that is reached by https at another address than it listens on, and by a second name."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("public"),
        log_level="warning",
        public_url=PUBLIC,
        allowed_hosts=("other.example",),
    )
    found = [*(one for one in discover() if one.built_in), probe.FOUND]

    def make(port):
        return create_app(settings.model_copy(update={"port": port}), mercato_addresses, found=found)

    async with listening(make) as opened:
        yield opened


SERVER_PATHS = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-authorization-server/mcp",
    "/.well-known/oauth-authorization-server/mcp/x/probe",
    "/.well-known/openid-configuration",
    "/.well-known/openid-configuration/mcp",
    "/mcp/.well-known/openid-configuration",
]


@pytest.mark.parametrize("path", SERVER_PATHS)
async def test_the_servers_document_is_wherever_clients_look_and_its_issuer_is_the_same(site, path):
    response = await got(site, path)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["cache-control"] == "public, max-age=300"
    document = response.json()
    read = OAuthMetadata.model_validate(document)
    assert str(read.issuer).rstrip("/") == document["issuer"] == site.url
    for name, value in document.items():
        if name.endswith(("_endpoint", "_uri")):
            assert value.startswith(f"{site.url}/"), name
    assert document["response_types_supported"] == ["code"]
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["grant_types_supported"] == ["authorization_code", "refresh_token"]
    methods = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
    assert document["token_endpoint_auth_methods_supported"] == methods
    assert document["client_id_metadata_document_supported"] is True
    assert document["authorization_response_iss_parameter_supported"] is True
    assert "offline_access" in document["scopes_supported"]


RESOURCES = {
    "": "/mcp",
    "/mcp": "/mcp",
    "/mcp/": "/mcp",
    "/mcp/readonly": "/mcp/readonly",
    "/mcp/x/probe": "/mcp/x/probe",
    "/mcp/readonly/x/probe,commerce": "/mcp/readonly/x/probe,commerce",
}


@pytest.mark.parametrize("path", RESOURCES)
async def test_a_resource_has_a_document_whose_name_is_what_people_type(site, path):
    response = await got(site, f"/.well-known/oauth-protected-resource{path}")
    document = response.json()
    ProtectedResourceMetadata.model_validate(document)
    assert document["resource"] == site.url + RESOURCES[path]
    assert document["authorization_servers"] == [site.url]
    assert "offline_access" not in document["scopes_supported"]
    assert document["bearer_methods_supported"] == ["header"]


async def test_a_resource_offers_the_scopes_that_lead_somewhere_in_it(site):
    document = (await got(site, "/.well-known/oauth-protected-resource/mcp/readonly/x/probe")).json()
    assert document["scopes_supported"] == ["tools:read", "probe"]


@pytest.mark.parametrize("path", ["/keys", "/mcp/nothing", "/mcp/x/nothing", "/mcpx", "/mcp/x", "/.."])
async def test_what_is_no_resource_has_no_document(site, path):
    assert (await got(site, f"/.well-known/oauth-protected-resource{path}")).status_code == 404


@pytest.mark.parametrize("path", ["/mcp", "/mcp/readonly", "/mcp/x/probe"])
async def test_a_challenge_leads_to_the_document_of_the_address_that_was_called(site, path):
    body, headers = envelope("tools/list")
    async with site.client(None) as http:
        response = await http.post(path, json=body, headers=headers)
    assert response.status_code == 401
    where = f"{site.url}/.well-known/oauth-protected-resource{path}"
    assert f'resource_metadata="{where}"' in response.headers["www-authenticate"]
    assert (await got(site, where)).json()["resource"] == site.url + path


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
async def test_each_name_of_this_computer_has_its_own_resource_and_the_one_issuer(site, name):
    port = site.url.rpartition(":")[2]
    base = f"http://{name.lower()}:{port}"
    document = (await got(site, "/.well-known/oauth-protected-resource/mcp", host=f"{name}:{port}")).json()
    assert (document["resource"], document["authorization_servers"]) == (f"{base}/mcp", [site.url])
    server = (await got(site, "/.well-known/oauth-authorization-server", host=f"{name}:{port}")).json()
    assert server["issuer"] == site.url
    async with site.client(None, host=f"{name}:{port}") as http:
        challenge = (await http.post("/mcp", json={})).headers["www-authenticate"]
    assert f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"' in challenge


HOSTS = ["mcp.example", "mcp.example:80", "localhost", "localhost:1", "127.0.0.1:1"]
DOCUMENTS = ["/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/manifest.json"]


@pytest.mark.parametrize("host", HOSTS)
async def test_no_other_host_decides_an_address(site, host):
    for path in DOCUMENTS:
        forwarded = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "forwarded": "host=evil.example"}
        response = await got(site, path, host=host, **forwarded)
        assert response.json() == (await got(site, path)).json()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "evil", ""])
async def test_a_foreign_host_is_answered_by_nothing_at_all(site, host):
    for path in [*DOCUMENTS, "/sign-in", "/authorize", "/mcp"]:
        response = await got(site, path, host=host)
        assert response.status_code == 421
        assert "evil" not in response.text


async def test_the_keys_are_public_halves_only_and_their_id_is_in_every_token(site):
    keys = (await got(site, "/.well-known/jwks.json")).json()["keys"]
    for key in keys:
        assert key.keys() == {"kty", "n", "e", "kid", "use", "alg"}
        assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    assert (await site.runtime.oauth.keys.signing()).kid in {key["kid"] for key in keys}


async def test_the_manifest_is_made_of_the_catalogue(site):
    manifest = (await got(site, "/manifest.json")).json()
    named = {category["name"]: category for category in manifest["categories"]}
    assert named.keys() == site.runtime.catalog.categories.keys()
    assert named["probe"]["tools"] == len(site.runtime.catalog.categories["probe"].tools)
    assert manifest["oauth"]["issuer"] == site.url
    assert manifest["mcp"]["url"] == f"{site.url}/mcp"
    assert {"2025-11-25", "2026-07-28"} <= set(manifest["mcp"]["protocol_versions"])


OPEN = [*SERVER_PATHS, *DOCUMENTS, "/.well-known/jwks.json", "/token", "/register", "/revoke"]


@pytest.mark.parametrize("path", OPEN)
async def test_a_page_of_any_origin_may_read_what_is_public_without_its_cookies(site, path):
    headers = {"origin": "https://inspector.example", "access-control-request-method": "POST"}
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        preflight = await http.options(path, headers=headers)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in preflight.headers


@pytest.mark.parametrize("path", ["/introspect", "/sign-in", "/authorize", "/clients", "/keys", "/setup", "/mcp"])
async def test_a_page_of_a_foreign_origin_may_call_nothing_else(site, path):
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        for method in ("OPTIONS", "GET", "POST"):
            response = await http.request(method, path, headers={"origin": "https://evil.example"})
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers


async def test_a_public_url_decides_every_address(public_site):
    for path in DOCUMENTS:
        for host in ("mcp.shop.example", "other.example", "127.0.0.1:8765"):
            text = (await got(public_site, path, host=host)).text
            assert PUBLIC in text
            assert not {"other.example", "127.0.0.1", "http://"} & set(text.split('"'))
    document = (await got(public_site, "/.well-known/oauth-protected-resource", host="other.example")).json()
    assert (document["resource"], document["authorization_servers"]) == (f"{PUBLIC}/mcp", [PUBLIC])


async def test_over_https_cookies_are_secure_and_bound_to_the_host(public_site):
    tenant = await settle(public_site)
    email = await owner_of(public_site.runtime, tenant)
    client = await public_client(public_site.url, "https://client.example/callback")
    client.site_url = PUBLIC
    async with Browser(public_site.url, host="mcp.shop.example") as browser:
        page = await browser.http.get(client.address())
        assert page.headers["location"].startswith(f"{PUBLIC}/sign-in?next=")
        page = await browser.http.get(page.headers["location"].removeprefix(PUBLIC))
        [visit] = page.headers.get_list("set-cookie")
        assert visit.startswith("__Host-mercato_visit=")
        csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        form = {"csrf": csrf, "email": email, "password": "correct horse battery", "next": client.address()}
        headers = {"cookie": visit.partition(";")[0], "origin": PUBLIC}
        signed_in = await browser.http.post("/sign-in", data=form, headers=headers)
        assert signed_in.headers["location"] == PUBLIC + client.address()
        session = next(one for one in signed_in.headers.get_list("set-cookie") if "session" in one)
        assert session.startswith("__Host-mercato_session=")
        for cookie in (visit, session):
            attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
            assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
            assert not any(part.startswith("domain") for part in attributes)
        refused = await browser.http.get(
            client.address(response_type="token"), headers={"cookie": session.partition(";")[0]}
        )
        assert answer_of(refused)["iss"] == PUBLIC


@pytest.mark.parametrize("path", ["/token", "/register", "/revoke", "/introspect"])
async def test_a_method_that_an_endpoint_does_not_have_is_refused_as_json(site, path):
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        response = await http.get(path)
    assert (response.status_code, response.json()["error"]) == (405, "invalid_request")
    assert response.headers["allow"] == "POST"
