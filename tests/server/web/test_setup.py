"""First set-up: for whoever can read what the server printed, once."""

from __future__ import annotations

import anyio
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from mercato.plugins.manager import discover
from mercato.server.app import create_app
from mercato.server.settings import Settings
from mercato.server.web.setup import setup_address
from mercato.tenancy.memberships import Role, list_members
from mercato.tenancy.passwords import Password
from mercato.tenancy.tenants import create_tenant, list_tenants
from tests.server.browser import PASSWORD, Browser
from tests.server.conftest import listening

FILLED = {"name": "Ada", "email": "ada@first.example", "password": PASSWORD, "business_name": "Ada & Söhne"}


@pytest.fixture
async def new_site(empty_addresses, tmp_path):
    """A server that was never set up."""
    settings = Settings(data_dir=tmp_path, log_level="warning")
    found = [one for one in discover() if one.built_in]

    def make(port):
        return create_app(settings.model_copy(update={"port": port}), empty_addresses, found=found)

    async with listening(make) as opened:
        opened.runtime.passwords._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        yield opened


async def test_who_has_the_link_becomes_the_owner_of_a_new_business_and_nobody_after_them(new_site):
    site, link = new_site, await setup_address(new_site.runtime)
    async with Browser(site.url) as browser, Browser(site.url) as second:
        await assert_only_with_the_link(site, browser, link)
        await assert_faults_are_said(site, browser, link)
        other_form = await second.get(link)
        page = await browser.send(await browser.get(link), "/setup", **FILLED)
        assert page.url.path == "/clients"
        [tenant] = await list_tenants(site.runtime.database)
        assert tenant.name == "Ada & Söhne"
        [owner] = await list_members(site.runtime.database, tenant.id)
        assert (owner["email"], owner["role"]) == ("ada@first.example", Role.OWNER)
        access = await site.runtime.directory.access(tenant.id)
        assert access.categories == set(site.runtime.catalog.categories)
        await assert_over(site, link, other_form, second)


async def assert_only_with_the_link(site, browser, link):
    assert link.startswith(f"{site.url}/setup?token=")
    good = await browser.get(link)
    assert good.status_code == 200
    for wrong in ("/setup", "/setup?token=", "/setup?token=x", link[:-1], link + "A", "/setup?token=%C3%A4"):
        page = await browser.get(wrong)
        assert page.status_code == 404
        assert "Set up mercato" not in page.text
    for wrong in ("", "x", "ä"):
        page = await browser.send(good, "/setup", **{**FILLED, "token": wrong})
        assert page.status_code == 404
    assert await list_tenants(site.runtime.database) == []


FAULTS = [
    ({"name": ""}, "Say a name."),
    ({"email": "no address"}, "is no e-mail address"),
    ({"password": "short"}, "12 characters or more"),
    ({"password": "aaaaaaaaaaaaaaaa"}, "anybody would guess"),
    ({"password": "x" * 300 + "yz1"}, "256 characters at most"),
    ({"business": "999"}, "Choose a business."),
    ({"business": None}, "Choose a business."),
    ({"business_name": "  "}, "Say what the business is called."),
]


async def assert_faults_are_said(site, browser, link):
    form = await browser.get(link)
    for changed, text in FAULTS:
        page = await browser.send(form, "/setup", **{**FILLED, **changed})
        assert (page.status_code, text in page.text) == (400, True), changed
        assert PASSWORD not in page.text
    assert await setup_address(site.runtime) == link


async def assert_over(site, link, other_form, second):
    assert await setup_address(site.runtime) is None
    assert (await second.get(link)).status_code == 410
    page = await second.send(other_form, "/setup", **{**FILLED, "email": "second@first.example"})
    assert page.status_code == 410
    assert len(await list_tenants(site.runtime.database)) == 1


async def test_of_those_who_set_up_at_once_one_becomes_the_owner_of_a_business_that_was_there(new_site):
    site = new_site
    tenant = await create_tenant(site.runtime.database, "there", "There")
    link = await setup_address(site.runtime)
    pages = []

    async def set_up(number):
        async with Browser(site.url) as browser:
            given = {**FILLED, "email": f"person-{number}@first.example", "business": str(tenant.id)}
            pages.append(await browser.send(await browser.get(link), "/setup", **given))

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(set_up, number)
    assert [page.status_code for page in pages if page.status_code not in {409, 410}] == [200]
    assert len(await list_members(site.runtime.database, tenant.id)) == 1
    assert [one.slug for one in await list_tenants(site.runtime.database)] == ["there"]
    assert await setup_address(site.runtime) is None


async def test_a_set_up_that_ended_half_way_is_finished_by_the_same_person_with_the_same_link(new_site, monkeypatch):
    link = await setup_address(new_site.runtime)

    async def fails(*arguments, **options):
        raise ConnectionResetError

    async with Browser(new_site.url) as browser:
        with monkeypatch.context() as patched:
            patched.setattr("mercato.server.web.setup.onboard_tenant", fails)
            assert (await browser.send(await browser.get(link), "/setup", **FILLED)).status_code == 503
        other = {**FILLED, "password": "another long password"}
        refused = await browser.send(await browser.get(link), "/setup", **other)
        assert (refused.status_code, "has a password already" in refused.text) == (400, True)
        page = await browser.send(await browser.get(link), "/setup", **FILLED)
        assert page.url.path == "/clients"


async def test_a_link_that_was_used_stays_so_when_no_owner_can_sign_in_any_more(new_site):
    link = await setup_address(new_site.runtime)
    async with Browser(new_site.url) as browser:
        await browser.send(await browser.get(link), "/setup", **FILLED)
        async with new_site.runtime.database.system() as session:
            await session.exec(sa.delete(Password))
        assert (await browser.get(link)).status_code == 410
        fresh = await setup_address(new_site.runtime)
        assert (await browser.get(fresh)).status_code == 200
