"""What must be true of every page, in each state that it has, in light and dark, with scripts and without."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from playwright.async_api import Page

from mercato.tenancy.memberships import Role
from tests.server.conftest import Site
from tests.server.oauth.flow import OAuthClient, public_client
from tests.server.web.chromium import Screens, audit, faults
from tests.server.web.people import Person, invitation, join, open_business

LONG = "Zur-Alten-Mühle Handelsgesellschaft für Küstenbedarf"
Act = Callable[[Page], Awaitable[None]]


@dataclass(frozen=True)
class State:
    """A page in one of its states: who looks, where, and what they do first."""

    heading: str
    path: str
    person: Person | None = None
    act: Act | None = None
    status: int = 200


@pytest.mark.parametrize("javascript", [True, False], ids=["with scripts", "without scripts"])
async def test_every_page_can_be_seen_read_and_operated_by_everybody(screens: Screens, site: Site, javascript: bool):
    wrong: dict[str, list[str]] = {}
    async with screens.open(javascript=javascript) as page:
        for name, state in (await every_state(site)).items():
            await show(page, site, state)
            assert await page.locator("h1").inner_text() == state.heading, name
            found = await faults(page)
            await page.emulate_media(color_scheme="dark")
            assert await is_dark(page), name
            found += await audit(page)
            if found:
                wrong[name] = found
                await page.screenshot(path=screens.tmp_path / f"{name}.png", full_page=True)
            await page.emulate_media(color_scheme="light")
    assert wrong == {}


async def test_the_audit_finds_what_is_wrong_with_a_page(screens: Screens):
    async with screens.open() as page:
        await page.set_content(WRONG)
        found = "\n".join(await faults(page))
    for fault in WRONG_WITH_IT:
        assert fault in found


WRONG = """<!doctype html><html><head><title>Untitled</title></head><body><main>
  <h1>One</h1><h1>Two</h1><h3>Too deep</h3>
  <form><input name="nameless"><input id="pale" aria-label="Pale"><button type="button"></button></form>
  <p id="pale" onclick="void 0"><font color="#bbbbbb">Pale</font></p>
  <a href="#nowhere">Nowhere</a><button aria-describedby="nothing">Tiny</button>
  <table width="500"><tr><td>Wide</td></tr></table>
</main></body></html>"""
WRONG_WITH_IT = (
    "no language",
    "title: Untitled",
    "2 h1",
    "h3 after h1",
    "no label: <input name",
    "no name: <button type",
    "id twice: pale",
    "aria-describedby leads nowhere",
    "link to nothing",
    "inline handler",
    "px to hit",
    "contrast 1.92: <font",
    "scrolls sideways",
)


async def every_state(site: Site) -> dict[str, State]:
    """Return them all, with whatever must be there first."""
    harbour, long = await open_business(site, "Harbour & Pine"), await open_business(site, LONG, [])
    alone = await join(site, "Otto Berg", (harbour, Role.VIEWER))
    mia = await join(site, "Mia Lindqvist", (harbour, Role.OWNER), (long, Role.ADMIN))
    nobody = await join(site, "Nora Quist", (long, Role.MEMBER))
    await nobody.choose_password()
    await mia.connect("Desk Assistant", "https://desk.example/back", harbour, write="yes")
    await mia.connect("W" * 100, "cursor://anysphere.cursor-mcp/oauth/callback", harbour)
    asked = await public_client(site.url, client_name="Desk Assistant")
    named = await public_client(site.url, "https://assistant.example/oauth/back", client_name="N" * 100)
    to_asked, to_named = asked.address(), named.address(tenant=str(long.id))
    welcome = await invitation(site, harbour, "new-here@example.com", Role.MEMBER, mia)
    known = await invitation(site, long, nobody.email, Role.MANAGER, mia)
    return {
        "sign-in": State("Sign in", "/sign-in"),
        "sign-in-for-a-client": State("Sign in to connect Desk Assistant", f"/sign-in?next={quote(to_asked, safe='')}"),
        "sign-in-refused": State("Sign in", "/sign-in", act=sign_in_wrongly),
        "consent": State("Allow Desk Assistant to use Harbour & Pine?", to_asked, alone),
        "consent-of-several": State("Allow Desk Assistant to use Harbour & Pine?", tenant_in(asked, harbour.id), mia),
        "consent-with-nothing-on": State(f"Allow {'N' * 57}... to use {LONG}?", to_named, mia),
        "consent-refused": State("Allow Desk Assistant to use Harbour & Pine?", to_asked, alone, tick_nothing),
        "consent-details": State("Allow Desk Assistant to use Harbour & Pine?", to_asked, alone, open_details),
        "client-unknown": State("This request cannot be used", "/authorize?client_id=unknown", alone, status=400),
        "clients": State("Connected clients", "/clients", mia),
        "clients-asking": State("Connected clients", "/clients", mia, ask_to_revoke),
        "clients-none": State("Connected clients", "/clients", alone),
        "clients-of-a-long-name": State("Connected clients", "/clients", nobody),
        "keys": State("API keys", "/keys", mia, make_key),
        "keys-none": State("API keys", "/keys", alone),
        "keys-refused": State("API keys", "/keys", mia, make_nameless_key),
        "account": State("Account", "/account", nobody),
        "account-refused": State("Account", "/account", nobody, change_password_badly),
        "account-without-password": State("Account", "/account", mia),
        "invitation": State("Join Harbour & Pine", welcome),
        "invitation-of-a-member": State(f"Join {LONG}", known),
        "invitation-unknown": State("That did not work", "/invitation?token=no", status=404),
        "nothing": State("Nothing is here", "/nowhere", mia, status=404),
    }


def tenant_in(client: OAuthClient, tenant_id: int) -> str:
    return client.address(tenant=str(tenant_id))


async def show(page: Page, site: Site, state: State) -> None:
    """Come as the person of a state, do what they do, and be there."""
    await page.context.clear_cookies()
    if state.person is not None:
        name, token = f"mercato_session_{site.url.rpartition(':')[2]}", await state.person.session()
        await page.context.add_cookies([{"name": name, "value": token, "url": site.url}])
    response = await page.goto(state.path)
    assert response is not None
    assert response.status == state.status
    if state.act is not None:
        await state.act(page)


async def is_dark(page: Page) -> bool:
    color: str = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) < 150


async def sign_in_wrongly(page: Page) -> None:
    await page.get_by_label("E-mail").fill("nobody@example.com")
    await page.get_by_label("Password").fill("not the password")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("alert").wait_for()


async def tick_nothing(page: Page) -> None:
    for tick in await page.get_by_role("checkbox").all():
        await tick.uncheck()
    await page.get_by_role("button", name="Allow").click()
    await page.get_by_role("alert").wait_for()


async def open_details(page: Page) -> None:
    await page.get_by_text("Technical details").click()


async def ask_to_revoke(page: Page) -> None:
    await page.locator("summary").first.click()
    await page.get_by_role("button", name="Yes, revoke").first.wait_for()


async def make_key(page: Page) -> None:
    await page.get_by_label("Name").fill("Nightly export")
    await page.get_by_role("button", name="Make key").click()
    await page.locator("#new-key").wait_for()


async def make_nameless_key(page: Page) -> None:
    await page.get_by_label("Name").fill("   ")
    await page.get_by_role("button", name="Make key").click()
    await page.get_by_role("alert").wait_for()


async def change_password_badly(page: Page) -> None:
    await page.get_by_label("Present password").fill("not the password")
    await page.get_by_label("New password").fill("short")
    await page.get_by_role("button", name="Change password").click()
    await page.get_by_role("alert").wait_for()
