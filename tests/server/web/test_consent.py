"""Consent: what a person is shown, and that nobody gives away what is not theirs."""

from __future__ import annotations

import pytest

from mercato.server.changes import Change
from mercato.tenancy.grants import disable_category
from mercato.tenancy.memberships import Role, find_member
from mercato.tenancy.removal import remove_member
from tests.server.browser import forms_of
from tests.server.oauth.flow import OAuthClient, answer_of, called, public_client, register
from tests.server.web.people import join, open_business

pytestmark = pytest.mark.usefixtures("cheap_passwords")

CALLBACK = "https://client.example/callback"


@pytest.fixture
async def harbour(site):
    return await open_business(site, "Harbour")


@pytest.fixture
async def pine(site):
    return await open_business(site, "Pine", categories=["probe"])


@pytest.fixture
async def foreign(site):
    tenant = await open_business(site, "Foreign")
    await join(site, "Gus Foreign", (tenant, Role.OWNER))
    return tenant


@pytest.fixture
async def mia(site, harbour, pine):
    return await join(site, "Mia Lindqvist", (harbour, Role.OWNER), (pine, Role.VIEWER))


@pytest.fixture
async def client(site):
    return await public_client(site.url, CALLBACK, client_name="Claude")


def ticked_on(page):
    form = next(form for form in forms_of(page) if form.method == "post" and form.action.startswith("/authorize"))
    return {value for name, value in form.fields if name == "category"}, ("write", "yes") in form.fields


async def test_the_page_names_the_client_where_it_returns_and_how_it_is_known(client, mia):
    async with mia.browser() as browser:
        page = await browser.get(client.address())
    for text in ("Claude", "client.example", "obody has checked its name", CALLBACK, mia.email):
        assert text in page.text


async def test_a_program_on_this_computer_is_warned_of(site, mia):
    local = await public_client(site.url, "http://127.0.0.1:9123/callback")
    async with mia.browser() as browser:
        page = await browser.get(local.address())
    assert "this computer" in page.text
    assert "any program there could use this name" in page.text


async def test_a_program_on_this_computer_is_warned_of_also_where_its_client_has_a_web_site_too(site, mia):
    local = "http://127.0.0.1:9123/callback"
    known = await register(site.url, client_name="Editor", redirect_uris=[CALLBACK, local])
    warned = {}
    async with mia.browser() as browser:
        for redirect_uri in (CALLBACK, local):
            page = await browser.get(OAuthClient(site.url, known["client_id"], redirect_uri).address())
            warned[redirect_uri] = "any program there could use this name" in page.text
    assert warned == {CALLBACK: False, local: True}


ASKED = [
    (None, {"commerce", "probe", "system"}, False),
    ("tools:read", {"commerce", "probe", "system"}, False),
    ("tools:read tools:write", {"commerce", "probe", "system"}, True),
    ("tools:read probe", {"probe"}, False),
    ("probe offline_access nonsense", {"probe"}, False),
    ("offline_access", {"commerce", "probe", "system"}, False),
]


@pytest.mark.parametrize(("scope", "categories", "write"), ASKED)
async def test_what_was_asked_for_is_ticked_already(client, mia, harbour, scope, categories, write):
    async with mia.browser() as browser:
        page = await browser.get(client.address(scope=scope))
    assert ticked_on(page) == (categories, write)


async def test_another_business_shows_what_it_has_and_what_one_may_do_there(client, mia, harbour, pine):
    async with mia.browser() as browser:
        page = await browser.get(client.address(scope="tools:read tools:write", tenant=str(pine.id)))
        assert ticked_on(page) == ({"probe"}, False)
        assert "does not change anything" in page.text
        answer = answer_of(await browser.send(page, "/authorize", decision="allow", write="yes"))
    tokens = (await client.redeem(answer["code"])).json()
    assert tokens["scope"] == "tools:read probe"


async def test_a_business_that_one_does_not_belong_to_is_not_shown_and_gets_nothing(site, client, mia, foreign):
    async with mia.browser() as browser:
        page = await browser.get(client.address(tenant=str(foreign.id)))
        assert page.status_code == 200
        assert "Foreign" not in page.text
        for tenant in (str(foreign.id), "0", "", "x", str(2**70)):
            answer = await browser.send(page, "/authorize", decision="allow", tenant=tenant)
            assert answer.status_code == 403
            assert "location" not in answer.headers
            assert "Foreign" not in answer.text


async def test_nobody_switches_to_a_business_that_is_not_theirs(site, mia, foreign, pine):
    async with mia.browser() as browser:
        page = await browser.get("/clients")
        for tenant in (str(foreign.id), "0", "", "x"):
            assert (await browser.send(page, "/tenant", tenant=tenant)).status_code == 404
        switched = await browser.send(page, "/tenant", tenant=str(pine.id))
        assert "Pine" in switched.text.partition("<h1>")[2]


async def test_a_business_that_one_has_left_is_not_the_chosen_one_any_more(site, mia, harbour, pine):
    async with mia.browser() as browser:
        await browser.send(await browser.get("/clients"), "/tenant", tenant=str(pine.id))
        member = await find_member(site.runtime.database, pine, mia.email)
        async with site.runtime.database.tenant(pine.id) as db:
            await remove_member(db, member.id)
        page = await browser.get("/clients")
    assert "Harbour" in page.text
    assert "Pine" not in page.text


async def test_a_category_that_was_switched_off_meanwhile_is_not_granted(site, client, mia, harbour):
    async with mia.browser() as browser:
        page = await browser.get(client.address())
        async with site.runtime.database.tenant(harbour.id) as db:
            await disable_category(db, "commerce")
        await site.runtime.changes.publish(Change("access", harbour.id))
        answer = answer_of(await browser.send(page, "/authorize", decision="allow"))
    assert (await client.redeem(answer["code"])).json()["scope"] == "tools:read probe system"


async def test_the_code_lets_in_to_the_business_that_was_chosen_and_to_no_other(site, client, mia, harbour, pine):
    async with mia.browser() as browser:
        page = await browser.get(client.address(tenant=str(pine.id)))
        code = answer_of(await browser.send(page, "/authorize", decision="allow"))["code"]
    token = (await client.redeem(code)).json()["access_token"]
    claims = await site.runtime.oauth.access_tokens.read(token)
    assert claims.tenant_id == pine.id
    assert {tool["name"] for tool in (await called(site, token)).json()["result"]["tools"]} >= {"echo"}


async def test_who_belongs_to_no_business_is_told_so_and_gives_nothing(site, client):
    business = await open_business(site, "Closed")
    lone = await join(site, "Lone Wolf", (business, Role.MEMBER))
    member = await find_member(site.runtime.database, business, lone.email)
    async with site.runtime.database.tenant(business.id) as db:
        await remove_member(db, member.id)
    async with lone.browser() as browser:
        page = await browser.get(client.address())
    assert page.status_code == 403
    assert "belongs to no business" in page.text


async def test_the_answer_leads_away_by_303_and_tells_nobody_where_it_came_from(client, mia):
    async with mia.browser() as browser:
        response = await browser.send(await browser.get(client.address()), "/authorize", decision="allow")
    assert response.status_code == 303
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"
