"""Connected clients: who sees which, and the end of one."""

from __future__ import annotations

import re

import pytest

from mercato.tenancy.memberships import Role, find_member
from mercato.tenancy.removal import remove_member
from tests.server.oauth.flow import OAuthClient, assert_refused, called
from tests.server.web.people import join, open_business

pytestmark = pytest.mark.usefixtures("cheap_passwords")

CALLBACK = "https://client.example/callback"


@pytest.fixture
async def tenant(site):
    return await open_business(site, "Harbour & Pine")


@pytest.fixture
async def mia(site, tenant):
    return await join(site, "Mia Lindqvist", (tenant, Role.OWNER))


@pytest.fixture
async def ulf(site, tenant):
    return await join(site, "Ulf Berg", (tenant, Role.MEMBER))


def grant_of(site, tokens):
    return site.runtime.oauth.refresh_tokens.grant_id_of(tokens["refresh_token"])


async def revoked(browser, grant_id, **headers):
    page = await browser.get("/clients")
    csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    return await browser.http.post(f"/clients/{grant_id}/revoke", data={"csrf": csrf}, headers=headers)


async def test_a_client_is_shown_with_what_it_may_do_and_ended_at_the_next_call(site, tenant, mia):
    tokens = await mia.connect("Claude", CALLBACK, tenant, category=["probe", "commerce"], write="yes")
    assert (await called(site, tokens["access_token"])).status_code == 200
    async with mia.browser() as browser:
        page = await browser.get("/clients")
        for text in ("Claude", "client.example", "Reads and changes", "registered itself", "Commerce"):
            assert text in page.text
        assert "Never used" not in page.text
        page = await browser.send(page, f"/clients/{grant_of(site, tokens)}/revoke")
        assert "Claude has no access any more." in page.text
        assert "client.example" not in page.text
    response = await called(site, tokens["access_token"])
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_a_client_that_was_ended_cannot_refresh(site, tenant, mia):
    tokens = await mia.connect("Claude", CALLBACK, tenant, category=["probe"])
    async with mia.browser() as browser:
        for _ in range(2):
            assert (await revoked(browser, grant_of(site, tokens))).status_code == 200
    grants = site.runtime.oauth.refresh_tokens
    assert grants.grant_id_of(tokens["refresh_token"]) is not None
    client = OAuthClient(site.url, await client_of(site, tokens), CALLBACK)
    assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")


async def client_of(site, tokens):
    claims = await site.runtime.oauth.access_tokens.read(tokens["access_token"])
    return claims.client_id


async def test_a_member_sees_and_ends_only_their_own(site, tenant, mia, ulf):
    of_mia = await mia.connect("Claude of Mia", CALLBACK, tenant, category=["probe"])
    of_ulf = await ulf.connect("Claude of Ulf", CALLBACK, tenant, category=["probe"])
    async with ulf.browser() as browser:
        page = await browser.get("/clients")
        assert ("Claude of Ulf" in page.text, "Claude of Mia" in page.text) == (True, False)
        assert (await revoked(browser, grant_of(site, of_mia))).status_code == 404
        assert (await revoked(browser, grant_of(site, of_ulf))).status_code == 200
    assert (await called(site, of_mia["access_token"])).status_code == 200
    assert (await called(site, of_ulf["access_token"])).status_code == 401


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
async def test_who_administers_sees_and_ends_everybodys(site, tenant, mia, ulf, role):
    chief = await join(site, "Chief", (tenant, role))
    of_ulf = await ulf.connect("Claude of Ulf", CALLBACK, tenant, category=["probe"])
    async with chief.browser() as browser:
        page = await browser.get("/clients")
        assert "Claude of Ulf" in page.text
        assert "Ulf Berg" in page.text
        assert (await revoked(browser, grant_of(site, of_ulf))).status_code == 200
    assert (await called(site, of_ulf["access_token"])).status_code == 401


@pytest.mark.parametrize("role", [Role.MANAGER, Role.MEMBER, Role.VIEWER])
async def test_who_does_not_administer_ends_nobody_elses(site, tenant, mia, role):
    of_mia = await mia.connect("Claude of Mia", CALLBACK, tenant, category=["probe"])
    other = await join(site, "Other", (tenant, role))
    async with other.browser() as browser:
        assert (await revoked(browser, grant_of(site, of_mia))).status_code == 404
    assert (await called(site, of_mia["access_token"])).status_code == 200


async def test_a_client_of_another_business_is_not_told_from_one_that_is_not_there(site, tenant, mia):
    other = await open_business(site, "Other")
    gus = await join(site, "Gus Other", (other, Role.OWNER))
    tokens = await gus.connect("Claude of Gus", CALLBACK, other, category=["probe"])
    grant_id = grant_of(site, tokens)
    async with mia.browser() as browser:
        assert "Claude of Gus" not in (await browser.get("/clients")).text
        answers = [await revoked(browser, one) for one in (grant_id, 2**62)]
    assert [answer.status_code for answer in answers] == [404, 404]
    texts = [re.sub(r'name="csrf" value="[^"]*"', "", answer.text) for answer in answers]
    assert texts[0].replace(f"client {grant_id}", "client") == texts[1].replace(f"client {2**62}", "client")
    assert (await called(site, tokens["access_token"])).status_code == 200


async def test_a_script_gets_the_list_alone(site, tenant, mia):
    tokens = await mia.connect("Claude", CALLBACK, tenant, category=["probe"])
    async with mia.browser() as browser:
        response = await revoked(browser, grant_of(site, tokens), **{"hx-request": "true"})
    assert response.status_code == 200
    assert "<html" not in response.text
    assert 'id="grants"' in response.text
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


async def test_the_clients_of_a_member_who_has_left_are_not_shown(site, tenant, mia, ulf):
    await ulf.connect("Claude of Ulf", CALLBACK, tenant, category=["probe"])
    member = await find_member(site.runtime.database, tenant, ulf.email)
    async with site.runtime.database.tenant(tenant.id) as db:
        await remove_member(db, member.id)
    async with mia.browser() as browser:
        assert "Claude of Ulf" not in (await browser.get("/clients")).text
    async with ulf.browser() as browser:
        page = await browser.get("/clients")
    assert page.status_code == 403
    assert "belongs to no business" in page.text
