"""The ways in: a header of a program, a key, and the cookie of our own pages; each only where it belongs."""

from __future__ import annotations

import httpx
import pytest

from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.sessions import choose_tenant, end_sessions, find_session
from tests.server.conftest import envelope, modern
from tests.server.oauth.conftest import owner_in, settle
from tests.server.oauth.flow import connect, public_client


@pytest.fixture
async def acme(site):
    return await settle(site)


@pytest.fixture
async def ada(site, acme):
    async with owner_in(site, acme) as browser:
        yield browser


async def listed(site, **headers):
    body, given = envelope("tools/list")
    given |= {"accept": "application/json, text/event-stream", **headers}
    async with httpx.AsyncClient(base_url=site.url, timeout=20, verify=False) as http:
        return await http.post("/mcp", json=body, headers=given)


def cookie_of(browser):
    [found] = [cookie for cookie in browser.http.cookies.jar if "session" in cookie.name]
    return f"{found.name}={found.value}"


async def test_a_key_is_taken_in_either_header(site, acme):
    key = await site.key(acme)
    for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"x-api-key": key}):
        assert (await listed(site, **headers)).status_code == 200


@pytest.mark.parametrize("origin", ["https://app.example", "self", "http://localhost:3000"])
async def test_a_key_in_its_own_header_is_refused_from_a_browsers_page(site, acme, origin):
    key = await site.key(acme)
    origin = site.url if origin == "self" else origin
    response = await listed(site, **{"x-api-key": key, "origin": origin})
    assert response.status_code == 403
    assert response.json()["error"] == "invalid_request"
    assert key not in response.text


async def test_a_foreign_origin_is_refused_whatever_it_brings(site, acme):
    key = await site.key(acme)
    for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}, {}):
        response = await listed(site, origin="https://evil.example", **headers)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers


async def test_a_bearer_token_counts_before_a_key_and_a_cookie(site, acme, ada):
    key, cookie = await site.key(acme), cookie_of(ada)
    wrong = {"authorization": "Bearer mck_wrong"}
    assert (await listed(site, **wrong, **{"x-api-key": key})).status_code == 401
    assert (await listed(site, **wrong, cookie=cookie, origin=site.url)).status_code == 401


async def test_a_cookie_is_taken_from_our_own_pages_alone(site, ada):
    cookie = cookie_of(ada)
    assert (await listed(site, cookie=cookie, origin=site.url)).status_code == 200
    for origin in ("https://app.example", "http://127.0.0.1:1", "http://localhost:3000", "http://evil.localhost"):
        assert (await listed(site, cookie=cookie, origin=origin)).status_code in {401, 403}
    assert (await listed(site, cookie=cookie)).status_code == 401
    assert (await listed(site, cookie=cookie, origin="null")).status_code in {401, 403}


async def test_a_cookie_sees_what_its_person_sees_and_ends_with_the_session(site, acme, ada):
    headers = {"cookie": cookie_of(ada), "origin": site.url}
    names = {tool["name"] for tool in (await listed(site, **headers)).json()["result"]["tools"]}
    assert {"echo", "change", "administer"} <= names
    person = await find_session(site.runtime.database, headers["cookie"].partition("=")[2])
    await end_sessions(site.runtime.database, person.user_id)
    assert (await listed(site, **headers)).status_code == 401


async def test_a_cookie_acts_in_the_business_that_was_chosen_and_in_none_that_is_not_theirs(
    site, acme, other_tenant, ada
):
    headers = {"cookie": cookie_of(ada), "origin": site.url}
    person = await find_session(site.runtime.database, headers["cookie"].partition("=")[2])
    await choose_tenant(site.runtime.database, person.session_id, other_tenant.id)
    body, given = envelope("tools/call", {"name": "echo", "arguments": {"text": "hi"}})
    given |= {"accept": "application/json, text/event-stream", **headers}
    async with httpx.AsyncClient(base_url=site.url, timeout=20, verify=False) as http:
        said = (await http.post("/mcp", json=body, headers=given)).json()["result"]["structuredContent"]
        assert said == {"text": f"{acme.slug}: hi"}
        email = f"ada@{acme.slug}.example"
        await add_member(site.runtime.database, other_tenant.id, email, "Ada", Role.VIEWER)
        answer = (await http.post("/mcp", json=body, headers=given)).json()
    assert f"{acme.slug}: hi" not in str(answer)


async def test_nothing_says_what_is_wrong_with_a_credential(site, acme, ada):
    tokens = await connect(ada, await public_client(site.url), category=["probe"])
    wrong = ["mck_unknown", "mcr_unknown", tokens["refresh_token"], "a.b.c", tokens["access_token"][:-4] + "AAAA"]
    answers = {(await listed(site, authorization=f"Bearer {token}")).text for token in wrong}
    assert len(answers) == 1


async def test_without_a_credential_the_answer_says_where_to_sign_in_and_not_that_one_is_wrong(site):
    async with site.client(None) as http:
        response = await modern(http, "tools/list")
    assert response.status_code == 401
    assert "error=" not in response.headers["www-authenticate"]
    assert response.headers["www-authenticate"].startswith('Bearer realm="mercato", resource_metadata="')
    assert response.headers["cache-control"] == "no-store"
