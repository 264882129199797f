"""Forms are taken from our own pages alone, and our pages are shown in no frame."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import httpx
import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.server.web.setup import _token
from mercato.tenancy.codes import AuthorizationCode
from mercato.tenancy.invitations import PURPOSE, invite
from mercato.tenancy.memberships import Role
from mercato.tenancy.signing import Signer
from tests.server.browser import PASSWORD, Browser, forms_of
from tests.server.oauth.conftest import owner_of, settle
from tests.server.oauth.flow import answer_of, public_client

CALLBACK = "https://client.example/callback"


@pytest.fixture(scope="module")
async def acme(site):
    return await settle(site)


@pytest.fixture(scope="module")
async def ada(site, acme, cheap_passwords):
    async with Browser(site.url) as browser:
        await browser.sign_in(await owner_of(site.runtime, acme))
        yield browser


@pytest.fixture(scope="module")
async def mallory(site, cheap_passwords):
    """Somebody else who is signed in, with forms of their own."""
    async with Browser(site.url) as browser:
        await browser.sign_in(await owner_of(site.runtime, await settle(site, "Globex")))
        yield browser


async def csrf_of(browser, path="/account") -> str:
    """Return what the forms of a browser carry; it stays the same while its session lasts."""
    if browser not in KNOWN:
        KNOWN[browser] = dict(forms_of(await browser.get(path))[0].fields)["csrf"]
    return KNOWN[browser]


KNOWN: WeakKeyDictionary[Browser, str] = WeakKeyDictionary()


async def no_token(ada, mallory):
    return None, {}


async def an_empty_token(ada, mallory):
    return "", {}


async def a_made_up_token(ada, mallory):
    return "AAAA", {}


async def a_token_of_another_session(ada, mallory):
    return await csrf_of(mallory), {}


async def a_token_of_nobodys_visit(ada, mallory):
    async with Browser(str(ada.http.base_url).rstrip("/")) as stranger:
        return await csrf_of(stranger, "/sign-in"), {}


async def a_foreign_origin(ada, mallory):
    return await csrf_of(ada), {"origin": "https://evil.example"}


async def an_origin_that_may_call_the_endpoint(ada, mallory):
    return await csrf_of(ada), {"origin": "https://app.example"}


async def an_origin_of_another_port(ada, mallory):
    return await csrf_of(ada), {"origin": "http://127.0.0.1:1"}


async def an_origin_that_is_hidden(ada, mallory):
    return await csrf_of(ada), {"origin": "null"}


async def a_page_of_another_site(ada, mallory):
    return await csrf_of(ada), {"sec-fetch-site": "cross-site"}


async def a_page_of_the_same_site_on_another_host(ada, mallory):
    return await csrf_of(ada), {"sec-fetch-site": "same-site"}


FORGED = [
    no_token,
    an_empty_token,
    a_made_up_token,
    a_token_of_another_session,
    a_token_of_nobodys_visit,
    a_foreign_origin,
    an_origin_that_may_call_the_endpoint,
    an_origin_of_another_port,
    an_origin_that_is_hidden,
    a_page_of_another_site,
    a_page_of_the_same_site_on_another_host,
]


@pytest.mark.parametrize("forge", FORGED, ids=lambda forge: forge.__name__)
async def test_consent_is_not_given_by_a_form_that_is_not_ours(site, acme, ada, mallory, forge):
    client = await public_client(site.url, CALLBACK)
    csrf, headers = await forge(ada, mallory)
    form = {"decision": "allow", "tenant": str(acme.id), "category": "probe"}
    form |= {} if csrf is None else {"csrf": csrf}
    response = await ada.http.post(client.address(), data=form, headers=headers)
    assert response.status_code == 403
    assert "location" not in response.headers
    async with site.runtime.database.system() as session:
        codes = sa.select(sa.func.count()).where(col(AuthorizationCode.client_id) == client.client_id)
        assert (await session.exec(codes)).scalar_one() == 0


async def test_the_same_form_of_our_own_page_gives_consent(site, acme, ada):
    client = await public_client(site.url, CALLBACK)
    form = {"decision": "allow", "tenant": str(acme.id), "category": "probe", "csrf": await csrf_of(ada)}
    headers = {"origin": site.url, "sec-fetch-site": "same-origin"}
    assert "code" in answer_of(await ada.http.post(client.address(), data=form, headers=headers))


FORMS = {
    "/sign-out": {},
    "/tenant": {"tenant": "1"},
    "/keys": {"name": "stolen", "days": "0"},
    "/keys/1/revoke": {},
    "/clients/1/revoke": {},
    "/account/password": {"password": "changed by somebody"},
    "/account/sign-out-everywhere": {},
    "/setup": {"token": "x"},
    "/invitation": {"token": "x"},
    "/sign-in": {"email": "mallory@evil.example", "password": PASSWORD},
}


@pytest.mark.parametrize("path", FORMS)
async def test_no_form_is_taken_from_elsewhere(ada, mallory, path):
    for csrf, headers in (
        ("", {}),
        (await csrf_of(mallory), {}),
        (await csrf_of(ada), {"origin": "https://app.example"}),
        (await csrf_of(ada), {"sec-fetch-site": "cross-site"}),
    ):
        response = await ada.http.post(path, data={**FORMS[path], "csrf": csrf}, headers=headers)
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
    assert (await ada.http.get("/account")).status_code == 200


async def test_a_form_in_another_encoding_is_not_taken(ada):
    csrf = await csrf_of(ada)
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x"):
        response = await ada.http.post("/sign-out", content=f"csrf={csrf}", headers={"content-type": kind})
        assert response.status_code == 400
    assert (await ada.http.get("/account")).status_code == 200


async def test_nobody_can_be_signed_in_as_somebody_else_by_a_forged_form(site, mallory):
    email = await owner_of(site.runtime, await settle(site))
    async with Browser(site.url) as victim:
        form = {"csrf": await csrf_of(mallory), "email": email, "password": PASSWORD}
        assert (await victim.http.post("/sign-in", data=form)).status_code == 403
        await victim.get("/sign-in")
        assert (await victim.http.post("/sign-in", data=form)).status_code == 403
        assert (await victim.http.get("/clients")).headers["location"].startswith(f"{site.url}/sign-in")


@pytest.fixture(scope="module")
async def every_page(site, acme, ada):
    """Every page of ours, as the owner and as a stranger see it."""
    client = await public_client(site.url, CALLBACK)
    async with site.runtime.database.tenant(acme.id) as db:
        signer = Signer(site.runtime.ring, PURPOSE)
        _, token = await invite(db, signer, "new@acme.example", Role.VIEWER, invited_by_user_id=None)
    pages = {}
    async with Browser(site.url) as stranger:
        for who, browser in (("owner", ada), ("stranger", stranger)):
            for name, path in {
                "sign in": "/sign-in",
                "consent": client.address(),
                "consent that cannot be given": client.address(redirect_uri="https://evil.example"),
                "clients": "/clients",
                "keys": "/keys",
                "account": "/account",
                "invitation": f"/invitation?token={token}",
                "invitation that is not good": "/invitation?token=x",
                "set-up": "/setup?token=x",
                "set-up that is over": f"/setup?token={await _token(site.runtime)}",
                "nothing": "/nothing",
            }.items():
                pages[f"{name}, {who}"] = await browser.get(path)
        pages["refused form"] = await stranger.http.post("/sign-out", data={})
        pages["wrong password"] = await stranger.sign_in("nobody@acme.example")
    return pages


async def test_no_page_can_be_shown_in_a_frame_or_kept_or_load_from_elsewhere(site, every_page):
    assert len(every_page) == 24
    for name, page in every_page.items():
        policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
        assert policy["frame-ancestors"] == "'none'", name
        assert (policy["default-src"], policy["base-uri"]) == ("'none'", "'none'")
        assert policy["script-src"] == policy["style-src"] == "'self'"
        allowed = "'self' https://client.example https:" if name == "consent, owner" else "'self'"
        assert policy["form-action"] == allowed, name
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cross-origin-opener-policy"] == "same-origin"


async def test_no_page_holds_a_script_or_a_style_of_its_own(every_page):
    for page in every_page.values():
        assert " style=" not in page.text
        assert "<style" not in page.text
        assert page.text.count("<script") == page.text.count("<script src=")
        assert " onclick=" not in page.text


async def test_what_a_client_calls_itself_cannot_become_part_of_the_page(site, acme, ada):
    name = '<script>alert(1)</script>"><img src=x onerror=alert(1)>{{7*7}}'
    client = await public_client(site.url, "https://client.example/a?b='c&d=(e)", client_name=name)
    page = await ada.get(client.address())
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
    assert "49" not in page.text.partition("<h1>")[2].partition("</h1>")[0]
    await ada.send(page, "/authorize", decision="allow", category=["probe"])


async def test_a_static_file_is_kept_for_ever_under_the_address_of_its_content_alone(site):
    async with Browser(site.url) as browser:
        path = site.app.state.web.templates.static_path
        own = await browser.http.get(f"{path}/style.css")
        other = await browser.http.get("/static/0123456789ab/style.css")
    assert own.text == other.text
    assert ("immutable" in own.headers["cache-control"], other.headers["cache-control"]) == (True, "no-cache")


async def test_an_address_with_a_slash_too_many_is_not_redirected_to_where_the_request_says(site):
    async with httpx.AsyncClient(base_url=site.url, verify=False) as http:
        for path in ("/token/", "/authorize/", "/register/"):
            response = await http.post(path, data={"code": "secret"}, headers={"host": "localhost:1"})
            assert (response.status_code, "location" in response.headers) == (404, False)
