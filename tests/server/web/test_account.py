"""A person's own account: the password, and where they are signed in."""

from __future__ import annotations

import pytest

from mercato.tenancy.memberships import Role
from tests.server.browser import PASSWORD, Browser
from tests.server.oauth.flow import called, connect, public_client
from tests.server.web.people import join, open_business

pytestmark = pytest.mark.usefixtures("cheap_passwords")

NEW = "another horse battery"


@pytest.fixture
async def mia(site):
    person = await join(site, "Mia Lindqvist", (await open_business(site, "Harbour & Pine"), Role.OWNER))
    await person.choose_password()
    return person


async def is_in(browser):
    return (await browser.get("/account")).url.path == "/account"


async def changed(browser, current=PASSWORD, password=NEW):
    return await browser.send(await browser.get("/account"), "/account/password", current=current, password=password)


async def test_a_new_password_ends_every_other_session_and_not_this_one(site, mia):
    async with mia.browser() as here, mia.browser() as there, Browser(site.url) as again:
        page = await changed(here)
        assert "Your password is changed" in page.text
        assert await is_in(here)
        assert not await is_in(there)
        assert (await again.sign_in(mia.email)).status_code == 401
        assert (await again.sign_in(mia.email, NEW)).url.path == "/clients"


WRONG = [("wrong password here", NEW), ("", NEW), (PASSWORD, "short"), (PASSWORD, ""), (PASSWORD, "a" * 20)]


@pytest.mark.parametrize(("current", "password"), WRONG)
async def test_what_is_wrong_changes_nothing(site, mia, current, password):
    async with mia.browser() as here, mia.browser() as there, Browser(site.url) as again:
        assert (await changed(here, current, password)).status_code == 400
        assert await is_in(there)
        assert (await again.sign_in(mia.email)).url.path == "/clients"


async def test_a_session_that_was_stolen_cannot_guess_the_password(site, mia, monkeypatch):
    monkeypatch.setattr("mercato.server.web.account._MOST_ATTEMPTS", 3)
    async with mia.browser() as stolen:
        for _ in range(3):
            assert "not your present password" in (await changed(stolen, "wrong password here")).text
        page = await changed(stolen)
        assert page.status_code == 400
        assert "too many attempts" in page.text
    async with Browser(site.url) as own:
        assert (await own.sign_in(mia.email)).url.path == "/clients"


async def test_who_has_no_password_sets_one_without_an_old_one(site):
    nils = await join(site, "Nils Holm", (await open_business(site, "Other"), Role.OWNER))
    async with nils.browser() as here, Browser(site.url) as again:
        page = await here.send(await here.get("/account"), "/account/password", password=NEW)
        assert page.status_code == 200
        assert (await again.sign_in(nils.email, NEW)).url.path == "/clients"
        assert (await changed(here, "")).status_code == 400


async def test_signing_out_everywhere_ends_every_session_and_leaves_clients_and_keys(site, mia):
    async with mia.browser() as here, mia.browser() as there:
        tokens = await connect(here, await public_client(site.url), category=["probe"])
        page = await here.send(await here.get("/account"), "/account/sign-out-everywhere")
        assert page.url.path == "/sign-in"
        for browser in (here, there):
            assert not await is_in(browser)
    assert (await called(site, tokens["access_token"])).status_code == 200


async def test_the_sessions_of_others_are_neither_shown_nor_ended(site, mia):
    ulf = await join(site, "Ulf Berg", (await open_business(site, "Other"), Role.OWNER))
    await ulf.session("Ulf's secret device")
    async with mia.browser() as here, ulf.browser() as other:
        page = await here.get("/account")
        assert "Ulf" not in page.text
        assert "This one" in page.text
        await here.send(page, "/account/sign-out-everywhere")
        assert await is_in(other)


async def test_a_device_is_shown_as_text(site, mia):
    async with Browser(
        site.url, **{"user-agent": "<b>x</b> Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0 Edg/130.0"}
    ) as browser:
        await browser.sign_in(mia.email)
        page = await browser.get("/account")
    assert "Edge on Linux" in page.text
    assert "<b>x" not in page.text
