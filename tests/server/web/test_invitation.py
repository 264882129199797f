"""Invitations: for one person, once, for a while."""

from __future__ import annotations

import struct
from datetime import timedelta

import anyio
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.invitations import PURPOSE, Invitation, invite
from mercato.tenancy.memberships import Role, list_members
from mercato.tenancy.rows import utc_now
from mercato.tenancy.secrets import KeyRing, new_key
from mercato.tenancy.signing import Signer
from mercato.tenancy.tenants import TenantRecord
from tests.server.browser import PASSWORD, Browser
from tests.server.oauth.flow import called, connect, public_client
from tests.server.web.people import invitation, join, open_business

pytestmark = pytest.mark.usefixtures("cheap_passwords")


@pytest.fixture
async def tenant(site):
    return await open_business(site, "Harbour & Pine")


@pytest.fixture
async def mia(site, tenant):
    return await join(site, "Mia Lindqvist", (tenant, Role.OWNER))


@pytest.fixture
async def link(site, tenant, mia):
    return await invitation(site, tenant, f"new@{tenant.slug}.example", Role.MANAGER, mia)


async def accepted(browser, link, **given):
    return await browser.send(await browser.get(link), "/invitation", **given)


async def roles(site, tenant):
    return {member["email"]: member["role"] for member in await list_members(site.runtime.database, tenant.id)}


def assert_not_good(page):
    assert page.status_code == 404
    assert "ask for a new one" in page.text or "not complete" in page.text
    assert "Choose a password" not in page.text


async def test_an_invitation_says_who_invites_to_what(site, tenant, link):
    async with Browser(site.url) as browser:
        page = await browser.get(link)
    for text in ("Harbour &amp; Pine", "Mia Lindqvist", "manager", f"new@{tenant.slug}.example"):
        assert text in page.text


async def test_who_is_new_makes_an_account_and_the_link_is_used_up(site, tenant, mia, link):
    async with Browser(site.url) as browser, Browser(site.url) as another:
        open_elsewhere = await another.get(link)
        page = await accepted(browser, link, name="Nora New", password=PASSWORD)
        assert page.url.path == "/clients"
        assert (await roles(site, tenant))[f"new@{tenant.slug}.example"] == "manager"
        assert_not_good(await another.get(link))
        assert_not_good(await another.send(open_elsewhere, "/invitation", name="Eve", password=PASSWORD))
        assert (await another.sign_in(f"new@{tenant.slug}.example")).url.path == "/clients"


async def test_who_has_an_account_joins_with_its_password_and_with_no_other(site, tenant, mia):
    home = await open_business(site, "Home")
    ulf = await join(site, "Ulf Berg", (home, Role.OWNER))
    await ulf.choose_password()
    link = await invitation(site, tenant, ulf.email, Role.VIEWER, mia)
    async with Browser(site.url) as browser:
        page = await accepted(browser, link, name="Somebody", password="another password, chosen now")
        assert page.status_code == 400
        assert "not the password of your account" in page.text
        assert ulf.email not in await roles(site, tenant)
        page = await accepted(browser, link, password=PASSWORD)
        assert page.url.path == "/clients"
        assert "Ulf Berg" in page.text
    assert (await roles(site, tenant))[ulf.email] == "viewer"
    assert (await roles(site, home))[ulf.email] == "owner"


async def test_the_password_of_an_account_cannot_be_guessed_by_its_invitation(site, tenant, mia, monkeypatch):
    monkeypatch.setattr("mercato.server.web.invitation.OF_A_PAIR", 3)
    ulf = await join(site, "Ulf Berg", (await open_business(site, "Home"), Role.OWNER))
    await ulf.choose_password()
    link = await invitation(site, tenant, ulf.email, Role.VIEWER, mia)
    async with Browser(site.url) as browser:
        form = await browser.get(link)
        for _ in range(3):
            await browser.send(form, "/invitation", password="wrong password here")
        page = await browser.send(form, "/invitation", password=PASSWORD)
    assert "too many attempts" in page.text
    assert ulf.email not in await roles(site, tenant)


async def test_who_is_signed_in_as_somebody_else_becomes_the_one_who_was_invited(site, tenant, mia, link):
    async with mia.browser() as browser:
        page = await accepted(browser, link, name="Nora New", password=PASSWORD)
        assert "Nora New" in page.text
    assert (await roles(site, tenant))[mia.email] == "owner"


@pytest.mark.parametrize("given", [{"name": ""}, {"password": "short"}, {"password": ""}])
async def test_what_is_wrong_is_said_and_uses_nothing_up(site, tenant, link, given):
    async with Browser(site.url) as browser:
        page = await accepted(browser, link, **{"name": "Nora", "password": PASSWORD, **given})
        assert page.status_code == 400
        assert (await accepted(browser, link, name="Nora", password=PASSWORD)).url.path == "/clients"


async def test_of_those_who_use_a_link_at_once_one_joins(site, tenant, mia, link):
    pages = []

    async def use(number):
        async with Browser(site.url) as browser:
            pages.append(await accepted(browser, link, name=f"Person {number}", password=f"{PASSWORD} {number}"))

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(use, number)
    assert [page.url.path for page in pages if page.status_code == 200] == ["/clients"]
    assert {page.status_code for page in pages} <= {200, 400, 404}
    assert len(await roles(site, tenant)) == 2


async def test_of_those_with_an_account_who_use_a_link_at_once_one_joins(site, tenant, mia):
    ulf = await join(site, "Ulf Berg", (await open_business(site, "Home"), Role.OWNER))
    await ulf.choose_password()
    link = await invitation(site, tenant, ulf.email, Role.VIEWER, mia)
    statuses = []

    async def use():
        async with Browser(site.url) as browser:
            statuses.append((await accepted(browser, link, password=PASSWORD)).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(use)
    assert sorted(statuses) == [200, 404, 404]


async def test_an_invitation_expires(site, tenant, link, monkeypatch):
    async with Browser(site.url) as browser:
        form = await browser.get(link)
        late = utc_now() + timedelta(days=7, seconds=1)
        monkeypatch.setattr("mercato.tenancy.invitations.utc_now", lambda: late)
        assert_not_good(await browser.get(link))
        assert_not_good(await browser.send(form, "/invitation", name="Nora", password=PASSWORD))
    assert len(await roles(site, tenant)) == 1


async def test_a_newer_invitation_of_the_same_person_ends_the_older(site, tenant, mia, link):
    newer = await invitation(site, tenant, f" NEW@{tenant.slug}.example", Role.VIEWER, mia)
    async with Browser(site.url) as browser:
        assert_not_good(await browser.get(link))
        assert (await accepted(browser, newer, name="Nora", password=PASSWORD)).url.path == "/clients"
    assert (await roles(site, tenant))[f"new@{tenant.slug}.example"] == "viewer"


async def test_an_invitation_ends_with_its_business(site, tenant, link):
    async with site.runtime.database.system() as session:
        (await session.get(TenantRecord, tenant.id)).removed_at = utc_now()
    async with Browser(site.url) as browser:
        assert_not_good(await browser.get(link))


async def test_a_link_that_was_changed_or_signed_elsewhere_or_for_something_else_is_not_good(site, tenant, link):
    token = link.partition("=")[2]
    elsewhere = Signer(KeyRing.from_text(new_key()), PURPOSE)
    other_purpose = Signer(site.runtime.ring, "form")
    forged = []
    for signer in (elsewhere, other_purpose):
        async with site.runtime.database.tenant(tenant.id) as db:
            forged.append((await invite(db, signer, "forged@x.example", Role.OWNER, invited_by_user_id=None))[1])
    short = Signer(site.runtime.ring, PURPOSE).sign(b"short")
    async with Browser(site.url) as browser:
        for bad in ("", "x", token[:-1], "B" + token[1:], token + "=", *forged, short, "%C3%A4"):
            assert_not_good(await browser.get(f"/invitation?token={bad}"))


async def test_the_number_of_an_invitation_of_another_business_does_not_fit(site, tenant, link):
    other = await open_business(site, "Other")
    signer = Signer(site.runtime.ring, PURPOSE)
    _, invitation_id = struct.unpack(">qq", signer.verify(link.partition("=")[2]))
    async with Browser(site.url) as browser:
        assert_not_good(
            await browser.get(f"/invitation?token={signer.sign(struct.pack('>qq', other.id, invitation_id))}")
        )


async def test_an_invitation_cannot_take_the_last_owner_away(site, tenant, mia):
    await mia.choose_password()
    link = await invitation(site, tenant, mia.email, Role.VIEWER, mia)
    async with Browser(site.url) as browser:
        page = await accepted(browser, link, password=PASSWORD)
    assert page.status_code == 400
    assert "last owner" in page.text
    assert (await roles(site, tenant))[mia.email] == "owner"


async def test_a_role_that_an_invitation_changes_counts_at_the_next_call(site, tenant, mia):
    ulf = await join(site, "Ulf Berg", (tenant, Role.MEMBER))
    await ulf.choose_password()
    async with ulf.browser() as browser:
        tokens = await connect(browser, await public_client(site.url), category=["probe"], write="yes")
    before = {tool["name"] for tool in (await called(site, tokens["access_token"])).json()["result"]["tools"]}
    async with Browser(site.url) as browser:
        await accepted(browser, await invitation(site, tenant, ulf.email, Role.VIEWER, mia), password=PASSWORD)
    after = {tool["name"] for tool in (await called(site, tokens["access_token"])).json()["result"]["tools"]}
    assert before - after == {"change", "wipe"}
    async with site.runtime.database.tenant(tenant.id) as db:
        [used] = await db.rows(sa.select(Invitation.accepted_at).where(col(Invitation.email) == ulf.email))
    assert used.accepted_at is not None
