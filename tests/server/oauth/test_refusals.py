"""What an authorization request is refused for, where the answer goes, and that nothing was given."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import pytest

from tests.server.browser import PASSWORD, Browser, forms_of
from tests.server.oauth.conftest import owner_in, owner_of, settle
from tests.server.oauth.flow import (
    OAuthClient,
    allow,
    answer_of,
    connect,
    given_to,
    public_client,
    register,
)

CALLBACK = "https://client.example/callback"


@pytest.fixture(scope="module")
async def acme(site):
    return await settle(site)


@pytest.fixture(scope="module")
async def ada(site, acme):
    async with owner_in(site, acme) as browser:
        yield browser


@pytest.fixture
async def client(site):
    return await public_client(site.url, CALLBACK)


async def csrf_of(browser) -> str:
    fields = dict(forms_of(await browser.get("/account"))[0].fields)
    return fields["csrf"]


@pytest.fixture(scope="module")
async def csrf(ada):
    """What the forms of Ada's browser carry."""
    return await csrf_of(ada)


async def pressed_allow(browser, csrf, acme, address):
    """Send the consent form for an address, as somebody would who skips the page."""
    form = {"csrf": csrf, "decision": "allow", "tenant": str(acme.id), "category": "probe"}
    return await browser.http.post(address, data=form)


SENT_BACK = {
    "no PKCE": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "PKCE without a method, which means plain": ({"code_challenge_method": None}, "invalid_request"),
    "PKCE plain": ({"code_challenge_method": "plain"}, "invalid_request"),
    "a challenge that is no SHA-256": ({"code_challenge": "short"}, "invalid_request"),
    "a challenge with other characters": ({"code_challenge": "!" * 43}, "invalid_request"),
    "no response type": ({"response_type": None}, "invalid_request"),
    "an implicit grant": ({"response_type": "token"}, "unsupported_response_type"),
    "another response mode": ({"response_mode": "fragment"}, "invalid_request"),
    "a request object": ({"request": "eyJ.e30."}, "request_not_supported"),
    "a pushed request": ({"request_uri": "urn:x"}, "request_not_supported"),
    "no resource": ({"resource": None}, "invalid_target"),
    "a foreign resource": ({"resource": "https://mcp.elsewhere.example/mcp"}, "invalid_target"),
    "a resource on another port": ({"resource": "http://127.0.0.1:1/mcp"}, "invalid_target"),
    "a resource that cannot be read": ({"resource": "http://[/mcp"}, "invalid_target"),
    "a scope that nobody knows": ({"scope": "nonsense"}, "invalid_scope"),
    "a scope that is too long": ({"scope": "probe " * 200}, "invalid_scope"),
    "no page to be shown": ({"prompt": "none"}, "interaction_required"),
}


@pytest.mark.parametrize("why", SENT_BACK)
async def test_a_request_is_refused_by_a_redirect_that_says_so_and_gives_nothing(site, acme, ada, csrf, client, why):
    changed, error = SENT_BACK[why]
    address = client.address(**changed)
    for response in (await ada.http.get(address), await pressed_allow(ada, csrf, acme, address)):
        assert response.status_code == 303
        assert response.headers["location"].startswith(f"{CALLBACK}?")
        answer = answer_of(response)
        assert answer.pop("error_description")
        assert answer == {"error": error, "state": client.state, "iss": site.url}
    assert await given_to(site, client) == 0


PATHS = ["", "/", "/other", "/mcpx", "/mcp/x", "/mcp/x/nothing", "/mcp/x/probe/more", "/mcp/../keys", "/mcp?a=b"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_is_no_resource_is_an_invalid_target(site, ada, client, path):
    answer = answer_of(await ada.http.get(client.address(resource=site.url + path)))
    assert (answer["error"], answer["iss"], answer["state"]) == ("invalid_target", site.url, client.state)


TWICE = [
    ("scope", "probe", "tools:read", "invalid_request"),
    ("resource", "http://127.0.0.1:1/mcp", "https://elsewhere.example", "invalid_target"),
    ("code_challenge", "a" * 43, "b" * 43, "invalid_request"),
    ("unknown", "1", "2", "invalid_request"),
]


@pytest.mark.parametrize(("name", "one", "another", "error"), TWICE)
async def test_a_parameter_that_says_two_things_is_refused_known_or_not(site, ada, client, name, one, another, error):
    address = client.address() + "&" + urlencode([(name, one), (name, another)])
    answer = answer_of(await ada.http.get(address))
    assert (answer["error"], answer["iss"], answer["state"]) == (error, site.url, client.state)


async def test_a_parameter_that_is_given_twice_but_says_the_same_is_taken(site, ada, client):
    response = await ada.http.get(client.address() + "&" + urlencode({"resource": client.resource}))
    assert response.status_code == 200


async def test_a_state_that_is_too_long_is_refused_and_not_sent_back(site, ada, client):
    fits = await ada.http.get(client.address(state="s" * 512))
    answer = answer_of(await ada.http.get(client.address(state="s" * 513)))
    assert fits.status_code == 200
    assert answer.pop("error_description")
    assert answer == {"error": "invalid_request", "iss": site.url}


STATES = ["https://evil.example/", "//evil.example", "x&code=stolen", "x#code=stolen", "a b%0d%0aLocation: //evil", "ä"]


@pytest.mark.parametrize("state", STATES)
async def test_a_state_leads_nowhere_and_comes_back_as_it_was(site, acme, ada, client, state):
    client.state = state
    page = await ada.get(client.address())
    refused = await ada.http.get(client.address(response_type="token"))
    denied = await ada.send(page, "/authorize", decision="deny")
    allowed = await ada.send(page, "/authorize", decision="allow")
    assert answer_of(denied)["error"] == "access_denied"
    for response in (refused, denied, allowed):
        parts = urlsplit(response.headers["location"])
        assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == ("https", "client.example", "/callback", "")
        assert answer_of(response)["state"] == state
        assert ("code" in answer_of(response)) is (response is allowed)


REDIRECTS = {
    "another path": "https://client.example/callback/other",
    "a longer path": "https://client.example/callbackx",
    "a trailing slash": "https://client.example/callback/",
    "a path that climbs": "https://client.example/callback/../other",
    "a query": "https://client.example/callback?next=https://evil.example",
    "a fragment": "https://client.example/callback#x",
    "a port on https": "https://client.example:8443/callback",
    "the default port": "https://client.example:443/callback",
    "http for https": "http://client.example/callback",
    "another host": "https://evil.example/callback",
    "a host that begins alike": "https://client.example.evil.example/callback",
    "a user": "https://client.example@evil.example/callback",
    "a backslash": "https://client.example\\@evil.example/callback",
    "javascript:": "javascript:alert(1)//callback",
    "data:": "data:text/html,x",
    "nothing but slashes": "//client.example/callback",
    "letters in another case": "HTTPS://CLIENT.EXAMPLE/callback",
    "a line break": "https://client.example/callback\r\n",
    "a null": "https://client.example/callback\0",
}


@pytest.mark.parametrize("why", REDIRECTS)
async def test_a_redirect_that_is_not_the_clients_is_a_page_of_ours_and_no_redirect(site, acme, ada, csrf, client, why):
    address = client.address(redirect_uri=REDIRECTS[why])
    for response in (await ada.http.get(address), await pressed_allow(ada, csrf, acme, address)):
        assert_page_of_ours(response)
    assert await given_to(site, client) == 0


def assert_page_of_ours(response, status=400):
    assert response.status_code == status
    assert "location" not in response.headers
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


CLIENTS = {
    "no client": [],
    "an empty client": [("client_id", "")],
    "an unknown client": [("client_id", "mcc_unknown")],
    "two clients": [("client_id", "mcc_one"), ("client_id", "mcc_two")],
    "a client with a null": [("client_id", "mcc_\0")],
    "a client that is far too long": [("client_id", "m" * 3_000)],
}


@pytest.mark.parametrize("why", CLIENTS)
async def test_a_client_that_nobody_knows_is_a_page_of_ours_and_no_redirect(ada, client, why):
    rest = [(name, value) for name, value in client.request().items() if name != "client_id"]
    response = await ada.http.get(f"/authorize?{urlencode(rest + CLIENTS[why])}")
    assert_page_of_ours(response)
    assert "client.example" not in response.text


async def test_two_redirects_and_what_is_no_query_are_pages_of_ours(ada, client):
    address = client.address()
    for more in ("&redirect_uri=https://evil.example", "&x=%ff%fe", "&a=b" * 200):
        assert_page_of_ours(await ada.http.get(address + more))


async def test_a_redirect_may_be_left_out_only_where_there_is_one_and_that_is_sure(site, ada):
    sure = await public_client(site.url, CALLBACK)
    several = await register(site.url, redirect_uris=[CALLBACK, "https://client.example/other"])
    either = OAuthClient(site.url, several["client_id"], CALLBACK)
    local = await public_client(site.url, "http://127.0.0.1:9123/callback")
    assert (await ada.http.get(sure.address(redirect_uri=None))).status_code == 200
    for client in (either, local):
        assert_page_of_ours(await ada.http.get(client.address(redirect_uri=None)))


async def test_a_port_on_this_computer_may_be_another_and_nothing_else_may(site, acme, ada):
    client = await public_client(site.url, "http://127.0.0.1:9123/callback")
    answer = await allow(ada, client, redirect_uri="http://127.0.0.1:52001/callback")
    assert (await client.redeem(answer["code"], redirect_uri="http://127.0.0.1:52001/callback")).status_code == 200
    for other in ("http://127.0.0.1:52001/other", "http://localhost:9123/callback", "https://127.0.0.1:9123/callback"):
        assert_page_of_ours(await ada.http.get(client.address(redirect_uri=other)))
    for other in (
        "http://127.0.0.1:9123/callback?a=b",
        "http://127.0.0.2:9123/callback",
        "http://127.0.0.1:x/callback",
    ):
        assert_page_of_ours(await ada.http.get(client.address(redirect_uri=other)))


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "javascript:alert(1)",
    "evil.example",
    "/ä",
    "/clients\r\nX-Evil: 1",
    "/" + "a" * 5_000,
]


@pytest.mark.parametrize("following", ELSEWHERE)
async def test_no_next_leads_out_of_the_site(site, acme, cheap_passwords, following):
    email = await owner_of(site.runtime, acme)
    async with Browser(site.url) as stranger:
        page = await stranger.get(f"/sign-in?{urlencode({'next': following})}")
        assert dict(forms_of(page)[0].fields)["next"] == "/clients"
        csrf = dict(forms_of(page)[0].fields)["csrf"]
        form = {"csrf": csrf, "email": email, "password": PASSWORD}
        response = await stranger.http.post("/sign-in", data={**form, "next": following})
        assert response.headers["location"] == f"{site.url}/clients"
        again = await stranger.http.get("/sign-in", params={"next": following})
        assert again.headers["location"] == f"{site.url}/clients"
        left = await stranger.http.post("/sign-out", data={"csrf": await csrf_of(stranger), "next": following})
    assert left.headers["location"] == f"{site.url}/sign-in"


async def test_nothing_is_given_where_nothing_is_ticked_or_the_person_says_no(site, acme, ada, client):
    page = await ada.get(client.address())
    unticked = await ada.send(page, "/authorize", decision="allow", category=[])
    assert_page_of_ours(unticked)
    assert "Tick at least one" in unticked.text
    denied = answer_of(await ada.send(page, "/authorize", decision="deny"))
    assert (denied["error"], denied["state"], denied["iss"]) == ("access_denied", client.state, site.url)
    undecided = answer_of(await ada.send(page, "/authorize"))
    assert undecided["error"] == "access_denied"
    assert await given_to(site, client) == 0


async def test_a_form_cannot_tick_what_the_page_does_not_offer(site, acme, ada, client):
    tokens = await connect(ada, client, category=["probe", "nonsense", "tools:write", "*", "admin"])
    assert tokens["scope"] == "tools:read probe"
    page = await ada.get(client.address(resource=f"{site.url}/mcp/readonly/x/probe"))
    response = await ada.send(page, "/authorize", decision="allow", category=["probe", "commerce"], write="yes")
    code = answer_of(response)["code"]
    narrow = (await client.redeem(code, resource=None)).json()
    assert narrow["scope"] == "tools:read probe"
