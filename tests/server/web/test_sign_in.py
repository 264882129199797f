"""Signing in and out: new sessions, no oracle for accounts, and limits that keep no company out."""

from __future__ import annotations

import re
import secrets
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import SimpleNamespace

import anyio
import httpx
import pytest
import sqlalchemy as sa
from starlette.requests import Request

from mercato.server.web import sign_in as limits
from mercato.tenancy.accounts import User
from mercato.tenancy.memberships import Role
from mercato.tenancy.passwords import Password
from tests.server.browser import PASSWORD, Browser, forms_of
from tests.server.oauth.flow import public_client
from tests.server.web.people import join, open_business

pytestmark = pytest.mark.usefixtures("cheap_passwords", "address")


@pytest.fixture
def address(monkeypatch):
    """Where requests come from in this test: an address that others' attempts do not count for, with lower limits."""
    monkeypatch.setattr(limits, "OF_A_PAIR", 4)
    monkeypatch.setattr(limits, "OF_A_SUSPECT", 2)
    came_from = [f"2001:db8::{secrets.token_hex(2)}:{secrets.token_hex(2)}"]
    monkeypatch.setattr("mercato.server.web.page.client_address", lambda request, proxies: came_from[0])
    return came_from


@pytest.fixture
async def mia(site):
    person = await join(site, "Mia Lindqvist", (await open_business(site, "Harbour & Pine"), Role.OWNER))
    await person.choose_password()
    return person


def session_of(browser):
    return next((cookie.value for cookie in browser.http.cookies.jar if "session" in cookie.name), None)


async def tried(site, email, password="wrong password here"):
    async with Browser(site.url) as browser:
        return await browser.sign_in(email, password)


async def failed(site, email, times):
    """Fail to sign in so often; return the statuses of the answers."""
    async with Browser(site.url) as browser:
        csrf = dict(forms_of(await browser.get("/sign-in"))[0].fields)["csrf"]
        form = {"csrf": csrf, "email": email, "password": "wrong password here"}
        return [(await browser.http.post("/sign-in", data=form)).status_code for _ in range(times)]


async def test_signing_in_leads_to_the_first_page_and_signing_out_back(site, mia):
    async with Browser(site.url) as browser:
        page = await browser.sign_in(mia.email)
        assert page.url.path == "/clients"
        assert "Mia Lindqvist" in page.text
        token = session_of(browser)
        assert len(token) >= 43
        left = await browser.send(page, "/sign-out")
        assert left.url.path == "/sign-in"
        assert session_of(browser) is None
        browser.http.cookies.set(f"mercato_session_{site.runtime.settings.port}", token)
        assert (await browser.http.get("/clients")).headers["location"].startswith(f"{site.url}/sign-in")


async def test_who_is_not_signed_in_comes_back_to_where_they_wanted(site, mia):
    async with Browser(site.url) as browser:
        page = await browser.get("/keys?a=b%26c")
        assert page.url.path == "/sign-in"
        page = await browser.sign_in(mia.email, page=page)
    assert (page.url.path, page.url.query) == ("/keys", b"a=b%26c")


async def test_the_session_cookie_is_for_no_script_and_for_no_other_site(site, mia):
    async with Browser(site.url) as browser:
        page = await browser.get("/sign-in")
        csrf = dict(forms_of(page)[0].fields)["csrf"]
        form = {"csrf": csrf, "email": mia.email, "password": PASSWORD}
        cookies = (await browser.http.post("/sign-in", data=form)).headers.get_list("set-cookie")
    session = next(cookie for cookie in cookies if cookie.startswith("mercato_session_"))
    attributes = {part.strip().lower() for part in session.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert "secure" not in attributes
    assert any(cookie.startswith("mercato_visit_") and "Max-Age=0" in cookie for cookie in cookies)


async def test_a_session_that_was_there_before_is_not_the_one_after(site, mia):
    name = f"mercato_session_{site.runtime.settings.port}"
    async with Browser(site.url) as browser:
        browser.http.cookies.set(name, "chosen-by-somebody-else")
        await browser.sign_in(mia.email)
        values = [cookie.value for cookie in browser.http.cookies.jar if cookie.name == name]
        assert len([value for value in values if value != "chosen-by-somebody-else"]) == 1
    async with Browser(site.url) as attacker:
        attacker.http.cookies.set(name, "chosen-by-somebody-else")
        assert (await attacker.get("/clients")).url.path == "/sign-in"


async def test_signing_in_again_ends_the_session_that_the_browser_had(site, mia):
    ulf = await join(site, "Ulf Berg", (await open_business(site, "Other"), Role.OWNER))
    await ulf.choose_password()
    async with Browser(site.url) as browser:
        await browser.sign_in(mia.email)
        before = session_of(browser)
        csrf = dict(forms_of(await browser.get("/account"))[0].fields)["csrf"]
        await browser.http.post("/sign-in", data={"csrf": csrf, "email": ulf.email, "password": PASSWORD})
        assert session_of(browser) != before
        assert "Ulf Berg" in (await browser.get("/account")).text
    async with Browser(site.url) as old:
        old.http.cookies.set(f"mercato_session_{site.runtime.settings.port}", before)
        assert (await old.get("/clients")).url.path == "/sign-in"


def without_what_differs(page, email):
    return re.sub(r'name="csrf" value="[^"]*"', "", page.text).replace(email, "")


async def test_nothing_tells_an_account_that_is_not_there_from_a_wrong_password(site, mia):
    no_password = await join(site, "Nils Holm", (await open_business(site, "Other"), Role.OWNER))
    pages = {
        email: await tried(site, email) for email in (mia.email, "nobody@example.com", no_password.email, "no mail")
    }
    assert {page.status_code for page in pages.values()} == {401}
    assert len({without_what_differs(page, email) for email, page in pages.items()}) == 1
    headers = [{name: value for name, value in page.headers.items() if name not in VARYING} for page in pages.values()]
    assert all(one == headers[0] for one in headers)


VARYING = {"x-request-id", "content-length", "set-cookie"}


async def test_an_account_that_is_not_there_is_compared_as_one_that_is(site, mia, monkeypatch):
    compared = []
    verify = site.runtime.passwords._verify
    monkeypatch.setattr(site.runtime.passwords, "_verify", lambda *given: compared.append(given) or verify(*given))
    for email in (mia.email, "nobody@example.com", "no mail"):
        await tried(site, email)
    assert len(compared) == 3


@pytest.mark.parametrize("password", ["", " ", PASSWORD.upper(), PASSWORD + " ", "x" * 100_000, "\u0301\u0316" * 5_000])
async def test_a_wrong_password_is_wrong_whatever_it_is(site, mia, password):
    page = await tried(site, mia.email, password)
    assert page.status_code in {401, 413}
    assert (await tried(site, mia.email.upper() + " ", PASSWORD)).url.path == "/clients"


async def test_too_many_attempts_at_one_account_from_one_address_are_refused_even_with_the_right_password(
    site, mia, address
):
    assert await failed(site, mia.email, limits.OF_A_PAIR) == [401] * limits.OF_A_PAIR
    for email in (mia.email, f" {mia.email.upper()}"):
        page = await tried(site, email, PASSWORD)
        assert page.status_code == 429
        assert "too many attempts" in page.text
    other = await join(site, "Ulf Berg", (await open_business(site, "Other"), Role.OWNER))
    await other.choose_password()
    assert (await tried(site, other.email, PASSWORD)).status_code == 200
    address[0] = "2001:db8::ffff:1"
    assert (await tried(site, mia.email, PASSWORD)).status_code == 200


async def test_attempts_at_an_account_that_is_not_there_are_refused_alike(site, mia):
    for email in (mia.email, f"nobody-{secrets.token_hex(4)}@example.com"):
        statuses = await failed(site, email, limits.OF_A_PAIR + 1)
        assert statuses == [401] * limits.OF_A_PAIR + [429]


async def test_a_sign_in_that_succeeds_begins_the_count_anew(site, mia):
    for _ in range(2):
        await failed(site, mia.email, limits.OF_A_PAIR - 1)
        assert (await tried(site, mia.email, PASSWORD)).status_code == 200


def test_the_limits_are_those_that_a_person_with_ten_passwords_can_live_with(monkeypatch):
    monkeypatch.undo()
    assert (limits.OF_A_PAIR, limits.OF_A_SUSPECT, limits.OF_AN_ACCOUNT, limits.WINDOW_S) == (10, 3, 100, 900)


async def test_attempts_at_one_account_from_everywhere_are_refused_at_last(site, mia, address, monkeypatch):
    monkeypatch.setattr(limits, "OF_AN_ACCOUNT", 6)
    statuses = []
    for number in range(7):
        address[0] = f"2001:db8::{secrets.token_hex(2)}:{number}"
        statuses += await failed(site, mia.email, 1)
    assert statuses == [401] * 6 + [429]


async def test_one_address_cannot_use_up_what_others_may_try_at_an_account(site, mia, address, monkeypatch):
    monkeypatch.setattr(limits, "OF_AN_ACCOUNT", limits.OF_A_PAIR + 2)
    await failed(site, mia.email, limits.OF_A_PAIR + 5)
    address[0] = "2001:db8::ffff:2"
    assert (await tried(site, mia.email, PASSWORD)).status_code == 200


async def test_a_browser_that_has_signed_in_before_is_kept_out_by_nobody_elses_attempts(site, mia, monkeypatch):
    monkeypatch.setattr(limits, "OF_AN_ACCOUNT", 3)
    async with Browser(site.url) as known, Browser(site.url) as unknown:
        await known.send(await known.sign_in(mia.email), "/sign-out")
        assert (await failed(site, mia.email, 4))[-1] == 429
        assert (await unknown.sign_in(mia.email)).status_code == 429
        assert (await known.sign_in(mia.email)).status_code == 200
        await known.send(await known.get("/account"), "/sign-out")
        again = [
            (await known.sign_in(mia.email, "wrong password here")).status_code for _ in range(limits.OF_A_PAIR + 1)
        ]
        assert again == [401] * limits.OF_A_PAIR + [429]
        ulf = await join(site, "Ulf Berg", (await open_business(site, "Other"), Role.OWNER))
        await ulf.choose_password()
        assert (await known.sign_in(ulf.email)).status_code == 200


async def test_an_address_that_fails_all_over_has_fewer_attempts_and_still_some(site, mia, monkeypatch):
    monkeypatch.setattr(limits, "SUSPECT_AFTER", 4)
    for number in range(5):
        await failed(site, f"nobody-{number}-{secrets.token_hex(4)}@example.com", 1)
    assert (await tried(site, mia.email, PASSWORD)).status_code == 200
    statuses = await failed(site, mia.email, limits.OF_A_SUSPECT + 1)
    assert statuses == [401] * limits.OF_A_SUSPECT + [429]


async def test_what_a_stranger_writes_into_a_forwarding_header_is_no_address(site, mia, monkeypatch):
    monkeypatch.undo()
    seen = []
    for number in range(limits.OF_A_PAIR + 1):
        async with Browser(site.url, **{"x-forwarded-for": f"203.0.113.{number}"}) as browser:
            seen.append((await browser.sign_in(mia.email, "wrong password here")).status_code)
    assert seen[-1] == 429
    await site.runtime.throttle.forget("sign-in failures 127.0.0.1")


async def test_a_thousand_people_of_one_address_are_let_try_while_a_stranger_there_fails_all_over(site, address):
    for _ in range(limits.SUSPECT_AFTER + 1):
        await site.runtime.throttle.count(f"sign-in failures {address[0]}", limits.WINDOW_S)
    nobody = Request({"type": "http", "headers": []})
    visit = SimpleNamespace(runtime=site.runtime, web=site.app.state.web, request=nobody, address=address[0])
    refused = []

    async def attempt(some):
        for number in some:
            names = limits._counted(visit, f"person-{number}@{address[0]}.example")
            refused.append(await limits._too_many(visit, names))

    async with anyio.create_task_group() as group:
        for begin in range(20):
            group.start_soon(attempt, range(begin, 1_000, 20))
    assert refused == [False] * 1_000


async def test_many_people_of_one_address_sign_in_at_once(site, address):
    hashed = await site.runtime.passwords.hash(PASSWORD)
    emails = [f"person-{number}-{secrets.token_hex(4)}@example.com" for number in range(20)]
    async with site.runtime.database.system() as session:
        rows = [{"email": email, "name": "Person"} for email in emails]
        made = await session.exec(sa.insert(User).returning(User.id), params=rows)
        await session.exec(sa.insert(Password), params=[{"user_id": row[0], "hash": hashed} for row in made])
    async with Browser(site.url) as browser:
        csrf = dict(forms_of(await browser.get("/sign-in"))[0].fields)["csrf"]
        [visit] = browser.http.cookies.jar
    statuses = []
    nothing_kept = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    headers = {"cookie": f"{visit.name}={visit.value}"}
    async with httpx.AsyncClient(base_url=site.url, headers=headers, cookies=nothing_kept, verify=False) as http:

        async def sign_in(email):
            form = {"csrf": csrf, "email": email, "password": PASSWORD}
            statuses.append((await http.post("/sign-in", data=form)).status_code)

        async with anyio.create_task_group() as group:
            for email in emails:
                group.start_soon(sign_in, email)
    assert statuses == [303] * 20


async def test_the_sign_in_page_names_the_client_that_sent_the_person_only_where_that_is_sure(site, mia):
    client = await public_client(site.url, "https://client.example/callback", client_name="Claude")
    async with Browser(site.url) as browser:
        known = await browser.get(client.address())
        unsure = await browser.get(
            f"/sign-in?next=/authorize?client_id={client.client_id}%26redirect_uri=https://evil.example"
        )
        other = await browser.get("/sign-in?next=/keys")
    assert "Sign in to connect" in known.text
    assert "client.example" in known.text
    for page in (unsure, other):
        assert "Sign in to connect" not in page.text
        assert "evil.example" not in page.text.replace("redirect_uri=https://evil.example", "")


async def test_the_pages_of_another_name_of_this_computer_lead_to_the_one_that_cookies_are_for(site):
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        port = site.url.rpartition(":")[2]
        response = await http.get("/sign-in?next=/keys", headers={"host": f"localhost:{port}"})
    assert response.status_code == 307
    assert response.headers["location"] == f"{site.url}/sign-in?next=/keys"
    assert "set-cookie" not in response.headers


async def test_who_signs_in_often_and_rightly_is_never_refused(site, mia, monkeypatch):
    monkeypatch.setattr("mercato.server.web.sign_in.OF_AN_ACCOUNT", 3)
    for _ in range(6):
        async with Browser(site.url) as browser:
            await browser.sign_in(mia.email)
            assert (await browser.get("/account")).status_code == 200
