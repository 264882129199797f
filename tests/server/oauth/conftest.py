from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from argon2 import PasswordHasher

from mercato.plugins.manager import discover
from mercato.server.app import create_app
from mercato.server.changes import Change
from mercato.server.runtime import Addresses, Runtime
from mercato.tenancy.accounts import find_account, set_password
from mercato.tenancy.memberships import list_members
from mercato.tenancy.onboarding import find_owner, onboard_tenant
from mercato.tenancy.sessions import start_session
from mercato.tenancy.tenants import Tenant
from tests.server import probe
from tests.server.browser import PASSWORD, Browser
from tests.server.conftest import Site, listening


async def owner_of(runtime: Runtime, tenant: Tenant) -> str:
    """Return the address of a tenant's owner, who can sign in from now on."""
    email = str((await list_members(runtime.database, tenant.id))[0]["email"])
    account = await find_account(runtime.database, email)
    if not account.has_password:
        await set_password(runtime.database, runtime.passwords, account.user_id, PASSWORD)
    return email


@pytest.fixture
async def ada(site: Site, acme: Tenant) -> AsyncIterator[Browser]:
    """The owner of Acme, signed in."""
    async with Browser(site.url) as browser:
        await browser.sign_in(await owner_of(site.runtime, acme))
        yield browser


@pytest.fixture
async def gus(site: Site, other_tenant: Tenant) -> AsyncIterator[Browser]:
    """The owner of Globex, signed in."""
    async with Browser(site.url) as browser:
        await browser.sign_in(await owner_of(site.runtime, other_tenant))
        yield browser


@pytest.fixture(scope="session")
def cheap_passwords(site: Site) -> None:
    """Passwords whose hash costs nothing: what a test is about is seldom how long it takes to guess one."""
    site.runtime.passwords._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    site.runtime.passwords._nobodys = None


@pytest.fixture(scope="session")
async def replica(site: Site, mercato_addresses: Addresses) -> AsyncIterator[Site]:
    """A second process of the same deployment: the same settings, keys and engines, and nothing in its memory."""
    found = [*(one for one in discover() if one.built_in), probe.FOUND]
    async with listening(lambda port: create_app(site.runtime.settings, mercato_addresses, found=found)) as opened:
        yield opened


async def settle(site: Site, name: str = "Acme") -> Tenant:
    """Make a tenant with everything on, the probe too."""
    slug = f"{name.lower()}-{secrets.token_hex(6)}"
    categories = site.runtime.catalog.categories
    return await onboard_tenant(
        site.runtime.database, slug, name, owner_email=f"ada@{slug}.example", categories=categories
    )


@asynccontextmanager
async def listened(*processes: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Give what waits until each process has heard of a change of access that happens in this block."""
    heard = [anyio.Event() for _ in processes]

    def note(event: anyio.Event, change: Change) -> None:
        if change.kind == "access":
            event.set()

    async def wait() -> None:
        with anyio.fail_after(5):
            for event in heard:
                await event.wait()

    ends = [site.runtime.changes.subscribe(partial(note, event)) for site, event in zip(processes, heard, strict=True)]
    try:
        yield wait
    finally:
        for end in ends:
            end()


@asynccontextmanager
async def owner_in(site: Site, tenant: Tenant) -> AsyncIterator[Browser]:
    """The owner of a tenant in a browser, signed in without the page."""
    owner = await find_owner(site.runtime.database, tenant)
    token = await start_session(site.runtime.database, owner.user_id, "Firefox on Linux")
    async with Browser(site.url) as browser:
        browser.http.cookies.set(f"mercato_session{site.runtime.site.cookie_suffix}", token)
        yield browser
