"""API keys: made and shown once, cut by role and scopes, and ended."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.server.changes import Change
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.keys import ApiKey
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.rows import utc_now
from tests.server.conftest import modern
from tests.server.oauth.flow import called
from tests.server.web.people import join, open_business

pytestmark = pytest.mark.usefixtures("cheap_passwords")

GIVEN = {"name": "Nightly export", "days": "90"}


@pytest.fixture
async def tenant(site):
    return await open_business(site, "Harbour & Pine")


@pytest.fixture
async def mia(site, tenant):
    return await join(site, "Mia Lindqvist", (tenant, Role.OWNER))


@pytest.fixture
async def ulf(site, tenant):
    return await join(site, "Ulf Berg", (tenant, Role.MEMBER))


async def made(person, **given):
    """Make a key on the page; return the key and the page that shows it."""
    async with person.browser() as browser:
        page = await browser.send(await browser.get("/keys"), "/keys", **{**GIVEN, **given})
    assert page.status_code == 200, page.text
    [key] = set(re.findall(r"mck_[\w-]{43}", page.text))
    return key, page


async def names_of(site, key):
    return {tool["name"] for tool in (await called(site, key)).json()["result"]["tools"]}


async def row_of(site, tenant, key):
    async with site.runtime.database.tenant(tenant.id) as db:
        [row] = await db.rows(sa.select(ApiKey.__table__).where(col(ApiKey.shown) == key[:10]))
    return row


async def test_a_key_is_shown_once_and_works(site, tenant, mia):
    key, page = await made(mia)
    assert "no-store" in page.headers["cache-control"]
    assert (await called(site, key)).status_code == 200
    async with mia.browser() as browser:
        again = await browser.get("/keys")
    assert "Nightly export" in again.text
    assert key[:10] in again.text
    assert key not in again.text
    assert timedelta(days=89) < (await row_of(site, tenant, key)).expires_at - utc_now() <= timedelta(days=90)


SCOPES = [
    ({}, ["tools:read"], False),
    ({"write": "yes"}, ["*"], True),
    ({"category": ["probe"]}, ["tools:read", "probe"], False),
    ({"category": ["probe"], "write": "yes"}, ["tools:read", "tools:write", "probe"], True),
]


@pytest.mark.parametrize(("ticked", "scopes", "writes"), SCOPES)
async def test_a_key_does_what_was_ticked(site, tenant, mia, ticked, scopes, writes):
    key, _ = await made(mia, **ticked)
    assert (await row_of(site, tenant, key)).scopes == scopes
    names = await names_of(site, key)
    assert "echo" in names
    assert ("change" in names) is writes
    assert any(name.startswith("list_") for name in names) is ("category" not in ticked)


async def test_a_role_cuts_what_a_key_may_do_whatever_its_form_says(site, tenant):
    viewer = await join(site, "Vera Viewer", (tenant, Role.VIEWER))
    key, _ = await made(viewer, write="yes")
    assert (await row_of(site, tenant, key)).scopes == ["tools:read"]
    assert not {"change", "wipe", "administer"} & await names_of(site, key)


async def test_a_key_shrinks_with_the_role_of_its_member(site, tenant, mia, ulf):
    key, _ = await made(ulf, write="yes")
    before = await names_of(site, key)
    await add_member(site.runtime.database, tenant.id, ulf.email, ulf.name, Role.VIEWER)
    await site.runtime.changes.publish(Change("access", tenant.id))
    assert before - await names_of(site, key) >= {"change", "wipe"}


FAULTS = [
    ({"name": ""}, "Say what uses it."),
    ({"name": " \t"}, "Say what uses it."),
    ({"days": "31"}, "Choose how long it lasts."),
    ({"days": None}, "Choose how long it lasts."),
    ({"category": ["nonsense"]}, "There is no category"),
    ({"category": ["tools:write"]}, "There is no category"),
    ({"category": ["*"]}, "There is no category"),
]


@pytest.mark.parametrize(("changed", "text"), FAULTS)
async def test_what_is_wrong_is_said_and_makes_no_key(site, mia, changed, text):
    async with mia.browser() as browser:
        page = await browser.send(await browser.get("/keys"), "/keys", **{**GIVEN, **changed})
        assert (page.status_code, text in page.text) == (400, True)
        assert "mck_" not in page.text


async def test_a_key_that_is_revoked_is_refused_at_the_next_call(site, tenant, mia):
    key, _ = await made(mia)
    assert (await called(site, key)).status_code == 200
    row = await row_of(site, tenant, key)
    async with mia.browser() as browser:
        page = await browser.send(await browser.get("/keys"), f"/keys/{row.id}/revoke")
    assert "The key Nightly export is revoked." in page.text
    assert (await called(site, key)).status_code == 401


async def test_a_member_sees_and_ends_only_their_own_and_an_owner_every_one(site, tenant, mia, ulf):
    of_mia, _ = await made(mia, name="Of Mia")
    of_ulf, _ = await made(ulf, name="Of Ulf")
    id_of_mia = (await row_of(site, tenant, of_mia)).id
    async with ulf.browser() as browser:
        page = await browser.get("/keys")
        assert ("Of Ulf" in page.text, "Of Mia" in page.text) == (True, False)
        assert (await revoked(browser, page, id_of_mia)).status_code == 404
    assert (await called(site, of_mia)).status_code == 200
    async with mia.browser() as browser:
        page = await browser.get("/keys")
        assert "Of Ulf" in page.text
        assert "Of Mia" in page.text
        assert (await revoked(browser, page, (await row_of(site, tenant, of_ulf)).id)).status_code == 200
    assert (await called(site, of_ulf)).status_code == 401


async def revoked(browser, page, key_id):
    csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    return await browser.http.post(f"/keys/{key_id}/revoke", data={"csrf": csrf})


async def test_a_key_of_another_business_is_neither_seen_nor_ended_nor_told_from_one_that_is_not_there(site, mia):
    other = await open_business(site, "Other")
    gus = await join(site, "Gus Other", (other, Role.OWNER))
    key, _ = await made(gus, name="Of Gus")
    key_id = (await row_of(site, other, key)).id
    async with mia.browser() as browser:
        page = await browser.get("/keys")
        assert "Of Gus" not in page.text
        answers = [await revoked(browser, page, one) for one in (key_id, 2**62)]
    assert [answer.status_code for answer in answers] == [404, 404]
    texts = [re.sub(r'name="csrf" value="[^"]*"', "", answer.text) for answer in answers]
    assert texts[0].replace(f"key {key_id}", "key") == texts[1].replace(f"key {2**62}", "key")
    assert (await called(site, key)).status_code == 200


@pytest.mark.parametrize("number", ["9223372036854775808", "99999999999999999999999999", "0", "-1", "x", "1.5"])
async def test_a_number_that_no_key_has_is_not_found(mia, number):
    async with mia.browser() as browser:
        page = await browser.get("/keys")
        for path in (f"/keys/{number}/revoke", f"/clients/{number}/revoke"):
            csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
            assert (await browser.http.post(path, data={"csrf": csrf})).status_code == 404


async def test_a_key_is_in_the_audit_without_its_text(site, tenant, mia):
    key, _ = await made(mia)
    async with site.runtime.database.tenant(tenant.id) as db:
        rows = await db.rows(sa.select(AuditEntry.__table__).order_by(col(AuditEntry.id).desc()).limit(1))
    assert "key.create" in repr(rows)
    assert key not in repr(rows)


async def test_a_name_is_shown_as_text(mia):
    _, page = await made(mia, name="<script>alert(1)</script>\u202e")
    assert "<script>alert" not in page.text


async def test_a_key_calls_and_a_key_in_the_other_header_too(site, mia):
    key, _ = await made(mia)
    async with site.client(None, **{"x-api-key": key}) as http:
        assert (await modern(http, "tools/list")).status_code == 200
