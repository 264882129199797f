from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mercato.server.runtime import Runtime
from mercato.tenancy.accounts import find_account, set_password
from mercato.tenancy.memberships import list_members
from mercato.tenancy.tenants import Tenant
from tests.server.browser import PASSWORD, Browser
from tests.server.conftest import Site


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
