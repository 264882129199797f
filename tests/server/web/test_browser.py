"""What people do on the pages, in a real browser. What scripts change is done with and without them."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect
from starlette.applications import Starlette

from mercato.server.app import create_app
from mercato.server.settings import Settings
from mercato.server.web.setup import setup_address
from mercato.tenancy.memberships import Role
from mercato.tenancy.tenants import Tenant
from tests.server.browser import PASSWORD
from tests.server.conftest import Site, listening, modern
from tests.server.oauth.flow import public_client
from tests.server.web.chromium import Screens, faults, listener, tab_to
from tests.server.web.people import Person, invitation, join, open_business

NEW_PASSWORD = "a longer staple, please"
both = pytest.mark.parametrize("javascript", [True, False], ids=["with scripts", "without scripts"])


async def status_of(site: Site, token: str) -> int:
    """Return how a call with this token or key is answered."""
    async with site.client(token) as http:
        return (await modern(http, "tools/list")).status_code


async def tools_of(site: Site, token: str) -> set[str]:
    async with site.client(token) as http:
        return {tool["name"] for tool in (await modern(http, "tools/list")).json()["result"]["tools"]}


async def fill_in(page: Page, email: str, password: str) -> None:
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def test_the_first_person_sets_up_by_the_link_that_the_server_prints(screens: Screens, empty_addresses, tmp_path):
    settings = Settings(data_dir=tmp_path, log_level="warning", database_pool=4)

    def make(port: int) -> Starlette:
        return create_app(settings.model_copy(update={"port": port}), empty_addresses)

    async with listening(make) as site, screens.open(site=site) as page:
        link = await setup_address(site.runtime)
        assert link is not None
        await page.goto(link)
        assert await faults(page) == []
        await page.get_by_label("Your name").fill("Ada Byron")
        await page.get_by_label("E-mail").fill("ada@harbour.example")
        await page.get_by_label("Password").fill("too short")
        await page.get_by_label("Name of your business").fill("Harbour & Pine")
        await page.get_by_role("button", name="Finish set-up").click()
        await expect(page.get_by_role("alert")).to_contain_text("Password:")
        await expect(page.get_by_label("Name of your business")).to_have_value("Harbour & Pine")
        assert await faults(page) == []
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Finish set-up").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connected clients")
        await expect(page.locator("main")).to_contain_text("Harbour & Pine")
        response = await page.goto(link)
        assert response is not None
        assert response.status == 410
        assert await setup_address(site.runtime) is None


@both
async def test_a_person_signs_in_after_a_wrong_password_and_out_again(screens: Screens, mia: Person, javascript: bool):
    await mia.choose_password()
    async with screens.open(javascript=javascript) as page:
        await page.goto("/keys")
        await fill_in(page, mia.email, "not the password")
        await expect(page.get_by_role("alert")).to_have_text("The e-mail address or the password is not right.")
        await expect(page.get_by_label("E-mail")).to_have_value(mia.email)
        await expect(page.get_by_label("Password")).to_be_empty()
        assert await faults(page) == []
        await fill_in(page, mia.email, PASSWORD)
        await expect(page).to_have_url(f"{screens.site.url}/keys")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        await page.goto("/keys")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


@both
async def test_a_person_connects_a_program_on_their_computer(screens: Screens, mia: Person, javascript: bool):
    async with listener() as back, screens.open(await mia.session(), javascript=javascript) as page:
        client = await public_client(screens.site.url, back.redirect_uri, client_name="Desk Assistant")
        await page.goto(client.address())
        await expect(page.get_by_role("heading", level=1)).to_have_text("Allow Desk Assistant to use Harbour & Pine?")
        assert await faults(page) == []
        await page.get_by_role("checkbox", name="commerce").uncheck()
        await page.get_by_role("checkbox", name="system").uncheck()
        await page.get_by_role("button", name="Allow").click()
        answer = await back.answer()
        assert (answer["state"], answer["iss"]) == (client.state, screens.site.url)
        await expect(page.get_by_text("You may close this window.")).to_be_visible()
    tokens = (await client.redeem(answer["code"])).json()
    assert tokens["scope"] == "tools:read probe"
    assert "echo" in await tools_of(screens.site, tokens["access_token"])


async def test_a_program_may_lead_on_to_a_page_of_its_own(screens: Screens, mia: Person):
    async with listener() as done, listener() as back, screens.open(await mia.session()) as page:
        back.leads_on_to = done.redirect_uri.replace("127.0.0.1", "localhost")
        client = await public_client(screens.site.url, back.redirect_uri)
        await page.goto(client.address())
        await page.get_by_role("button", name="Allow").click()
        assert "code" in await back.answer()
        assert await done.answer() == {}
        await expect(page.get_by_text("You may close this window.")).to_be_visible()


async def test_the_policy_of_the_page_keeps_the_answer_from_other_sites(screens: Screens, mia: Person):
    session, blocked = await mia.session(), "Sending form data to"
    async with screens.open(session, forgiven=blocked) as page:
        client = await public_client(screens.site.url)
        await page.goto(client.address())
        async with page.expect_console_message(lambda message: message.text.startswith(blocked)):
            await page.evaluate(SEND_ELSEWHERE, "http://elsewhere.example/callback")
        assert page.url.startswith(screens.site.url)


SEND_ELSEWHERE = """url => {
  const button = document.querySelector("[value=deny]");
  button.formAction = url;
  button.form.requestSubmit(button);
}"""


@both
async def test_a_person_signs_in_and_allows_with_the_keyboard_alone(screens: Screens, mia: Person, javascript: bool):
    await mia.choose_password()
    async with listener() as back, screens.open(javascript=javascript) as page:
        client = await public_client(screens.site.url, back.redirect_uri, client_name="Desk Assistant")
        await page.goto(client.address())
        await tab_to(page, "#email")
        await page.keyboard.type(mia.email)
        await tab_to(page, "#password")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Allow Desk Assistant")
        await tab_to(page, "[name=write]")
        await page.keyboard.press("Space")
        await tab_to(page, "[name=decision][value=allow]")
        await page.keyboard.press("Enter")
        answer = await back.answer()
    tokens = (await client.redeem(answer["code"])).json()
    assert tokens["scope"] == "tools:read tools:write commerce probe system"


async def test_a_program_with_a_private_scheme_cannot_pass_for_a_web_site(
    screens: Screens, mia: Person, harbour: Tenant
):
    redirect_uri = "cursor://claude.ai/callback"
    await mia.connect("Claude", redirect_uri, harbour)
    client = await public_client(screens.site.url, redirect_uri, client_name="Claude")
    async with screens.open() as page:
        await page.goto(client.address())
        await expect(page.locator("main")).to_contain_text("you are sent back to this computer (cursor:)")
    async with screens.open(await mia.session()) as page:
        await page.goto(client.address())
        await expect(page.locator(".intro")).to_contain_text("this computer (cursor:)")
        await page.goto("/clients")
        await expect(page.locator("#grants")).to_contain_text("cursor:")
        await expect(page.locator("#grants")).not_to_contain_text("claude.ai")


async def test_enter_in_a_tick_box_never_allows(screens: Screens, mia: Person):
    async with listener() as back, screens.open(await mia.session()) as page:
        client = await public_client(screens.site.url, back.redirect_uri)
        await page.goto(client.address())
        await tab_to(page, "[name=category]")
        await page.keyboard.press("Enter")
        assert (await back.answer())["error"] == "access_denied"


@both
async def test_another_business_has_other_categories_and_gets_the_grant(screens: Screens, site: Site, javascript: bool):
    first, second = await open_business(site, "Alder"), await open_business(site, "Birch", ["probe"])
    mia = await join(site, "Mia Lindqvist", (first, Role.OWNER), (second, Role.VIEWER))
    async with listener() as back, screens.open(await mia.session(), javascript=javascript) as page:
        client = await public_client(site.url, back.redirect_uri, client_name="Desk Assistant")
        await page.goto(client.address())
        ticks = page.get_by_role("group", name="What it may use").get_by_role("checkbox")
        await expect(ticks).to_have_count(3)
        await expect(page.get_by_role("checkbox", name="It may also change things")).to_be_visible()
        assert await faults(page) == []
        await page.get_by_label("For the business").select_option(label="Birch")
        if not javascript:
            await page.get_by_role("button", name="Switch").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Allow Desk Assistant to use Birch?")
        await expect(ticks).to_have_count(1)
        await expect(page.get_by_role("checkbox", name="It may also change things")).to_have_count(0)
        await expect(page.locator("#consent")).to_contain_text("Your role here (viewer) does not change anything.")
        assert await faults(page) == []
        await page.get_by_role("button", name="Allow").click()
        answer = await back.answer()
    tokens = (await client.redeem(answer["code"])).json()
    assert tokens["scope"] == "tools:read probe"
    async with site.client(tokens["access_token"]) as http:
        said = (await modern(http, "tools/call", {"name": "echo", "arguments": {"text": "hi"}})).json()["result"]
    assert said["structuredContent"] == {"text": f"{second.slug}: hi"}


async def test_denying_and_ticking_nothing_give_nothing(screens: Screens, mia: Person):
    async with listener() as back, screens.open(await mia.session(), javascript=False) as page:
        client = await public_client(screens.site.url, back.redirect_uri)
        await page.goto(client.address())
        for tick in await page.get_by_role("checkbox").all():
            await tick.uncheck()
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("alert")).to_contain_text("Tick at least one, or deny.")
        assert await faults(page) == []
        await page.get_by_role("button", name="Deny").click()
        answer = await back.answer()
    assert answer == {
        "error": "access_denied",
        "error_description": answer["error_description"],
        "state": client.state,
        "iss": screens.site.url,
    }


async def test_a_person_can_answer_with_another_account(screens: Screens, mia: Person, harbour: Tenant):
    other = await join(screens.site, "Otto Berg", (harbour, Role.MEMBER))
    await other.choose_password()
    async with listener() as back, screens.open(await mia.session()) as page:
        client = await public_client(screens.site.url, back.redirect_uri, client_name="Desk Assistant")
        await page.goto(client.address())
        await page.get_by_role("button", name="Use another account").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to connect Desk Assistant")
        await fill_in(page, other.email, PASSWORD)
        await expect(page.locator("#consent")).to_contain_text(other.email)
        await page.get_by_role("button", name="Allow").click()
        assert "code" in await back.answer()


@both
async def test_a_person_ends_what_a_client_may_do(screens: Screens, mia: Person, harbour: Tenant, javascript: bool):
    kept = await mia.connect("Nightly", "https://nightly.example/back", harbour)
    ended = await mia.connect("Desk Assistant", "https://desk.example/back", harbour, write="yes")
    assert await status_of(screens.site, ended["access_token"]) == 200
    async with screens.open(await mia.session(), javascript=javascript) as page:
        await page.goto("/clients")
        await page.locator("summary", has_text="Revoke Desk Assistant").click()
        assert await faults(page) == []
        await page.get_by_role("button", name="Yes, revoke Desk Assistant").click()
        await expect(page.get_by_role("status").first).to_have_text("Desk Assistant has no access any more.")
        await expect(page.get_by_role("heading", name="Desk Assistant")).to_have_count(0)
        await expect(page.get_by_role("heading", name="Nightly")).to_be_visible()
        assert await status_of(screens.site, ended["access_token"]) == 401
        assert await status_of(screens.site, kept["access_token"]) == 200
        assert page.url.endswith("/clients") is javascript  # swapped in, or a page of its own
        assert await faults(page) == []


async def test_a_page_that_was_signed_out_meanwhile_says_so_when_it_is_used(
    screens: Screens, mia: Person, harbour: Tenant
):
    tokens = await mia.connect("Desk Assistant", "https://desk.example/back", harbour)
    async with screens.open(await mia.session(), forgiven="Response Status Error Code 403") as page:
        await page.goto("/clients")
        await page.context.clear_cookies()
        await page.locator("summary", has_text="Revoke Desk Assistant").click()
        await page.get_by_role("button", name="Yes, revoke Desk Assistant").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Please try again")
    assert await status_of(screens.site, tokens["access_token"]) == 200


@both
async def test_a_person_makes_a_key_uses_it_and_revokes_it(screens: Screens, mia: Person, javascript: bool):
    async with screens.open(await mia.session(), javascript=javascript) as page:
        await page.goto("/keys")
        await page.get_by_label("Name").fill("Nightly export")
        await page.get_by_role("checkbox", name="probe").check()
        await page.get_by_role("button", name="Make key").click()
        key = await page.locator("#new-key").inner_text()
        assert key.startswith("mck_")
        assert await faults(page) == []
        assert "echo" in await tools_of(screens.site, key)
        await page.goto("/keys")
        assert key not in await page.content()
        await page.locator("summary", has_text="Revoke Nightly export").click()
        await page.get_by_role("button", name="Yes, revoke Nightly export").click()
        await expect(page.get_by_role("status").first).to_have_text("The key Nightly export is revoked.")
        assert await status_of(screens.site, key) == 401


async def test_a_changed_password_signs_out_every_other_browser(screens: Screens, mia: Person):
    await mia.choose_password()
    async with (
        screens.open(await mia.session("Safari on iPhone")) as elsewhere,
        screens.open(await mia.session(), javascript=False) as page,
    ):
        await page.goto("/account")
        await expect(page.get_by_role("heading", name="Safari on iPhone")).to_be_visible()
        await page.get_by_label("Present password").fill("not the password")
        await page.get_by_label("New password").fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_role("alert")).to_contain_text("This is not your present password.")
        assert await faults(page) == []
        await page.get_by_label("Present password").fill(PASSWORD)
        await page.get_by_label("New password").fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_role("status").first).to_contain_text("Your password is changed.")
        await expect(page.get_by_role("heading", name="Safari on iPhone")).to_have_count(0)
        await elsewhere.goto("/clients")
        await fill_in(elsewhere, mia.email, NEW_PASSWORD)
        await expect(elsewhere.get_by_role("heading", level=1)).to_have_text("Connected clients")


async def test_a_person_signs_out_everywhere(screens: Screens, mia: Person):
    async with (
        screens.open(await mia.session("Safari on iPhone")) as elsewhere,
        screens.open(await mia.session()) as page,
    ):
        await page.goto("/account")
        await page.get_by_role("button", name="Sign out everywhere").click()
        for one in (page, elsewhere):
            await one.goto("/account")
            await expect(one.get_by_role("heading", level=1)).to_have_text("Sign in")


async def test_somebody_who_is_invited_joins_with_an_account_made_now(screens: Screens, mia: Person, harbour: Tenant):
    email = f"otto-{harbour.slug}@example.com"
    link = await invitation(screens.site, harbour, email, Role.MEMBER, mia)
    async with screens.open(javascript=False) as page:
        await page.goto(link)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Join Harbour & Pine")
        await expect(page.locator("main")).to_contain_text("Mia Lindqvist invited you as member")
        assert await faults(page) == []
        await page.get_by_label("Your name").fill("Otto Berg")
        await page.get_by_label("Choose a password").fill(PASSWORD)
        await page.get_by_role("button", name="Make account and join").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connected clients")
        await page.goto(link)
        await expect(page.get_by_role("heading", level=1)).to_have_text("That did not work")


async def test_somebody_with_an_account_joins_another_business_and_switches(screens: Screens, mia: Person, site: Site):
    await mia.choose_password()
    birch = await open_business(site, "Birch")
    otto = await join(site, "Otto Berg", (birch, Role.OWNER))
    link = await invitation(site, birch, mia.email, Role.ADMIN, otto)
    async with screens.open() as page:
        await page.goto(link)
        assert await faults(page) == []
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in and join").click()
        await page.get_by_label("Business").select_option(label="Harbour & Pine")
        await page.get_by_role("button", name="Switch").click()
        await expect(page.locator("main")).to_contain_text("may use Harbour & Pine")
        await page.get_by_label("Business").select_option(label="Birch")
        await page.get_by_role("button", name="Switch").click()
        await expect(page.locator("main")).to_contain_text("may use Birch")
