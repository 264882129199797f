"""People with businesses, in whose name pages are opened."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mercato.server.changes import Change
from mercato.tenancy.accounts import set_password
from mercato.tenancy.grants import enable_category
from mercato.tenancy.invitations import PURPOSE, invite
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.sessions import start_session
from mercato.tenancy.signing import Signer
from mercato.tenancy.tenants import Tenant, create_tenant
from tests.server.browser import PASSWORD, Browser
from tests.server.conftest import Site
from tests.server.oauth.flow import answer_of, public_client


@dataclass(frozen=True)
class Person:
    """Somebody with an account."""

    site: Site
    user_id: int
    name: str
    email: str

    async def session(self, device: str = "Firefox on Linux") -> str:
        """Sign in somewhere; return the session's token."""
        return await start_session(self.site.runtime.database, self.user_id, device)

    async def choose_password(self) -> None:
        """Make it `PASSWORD`, so that they can sign in with it."""
        runtime = self.site.runtime
        await set_password(runtime.database, runtime.passwords, self.user_id, PASSWORD)

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """Be signed in, without a browser that draws."""
        async with Browser(self.site.url) as browser:
            browser.http.cookies.set(f"mercato_session_{self.site.url.rpartition(':')[2]}", await self.session())
            yield browser

    async def connect(self, name: str, redirect_uri: str, tenant: Tenant, **ticked: Any) -> dict[str, Any]:
        """Connect a client in one of their businesses; return its tokens."""
        client = await public_client(self.site.url, redirect_uri, client_name=name)
        async with self.browser() as browser:
            page = await browser.get(client.address(tenant=str(tenant.id)))
            answer = answer_of(await browser.send(page, "/authorize", decision="allow", **ticked))
        tokens: dict[str, Any] = (await client.redeem(answer["code"])).json()
        return tokens


async def open_business(site: Site, name: str, categories: Sequence[str] = ("commerce", "probe", "system")) -> Tenant:
    """Open a business with these categories on, and nobody in it."""
    tenant = await create_tenant(site.runtime.database, f"b-{secrets.token_hex(5)}", name)
    async with site.runtime.database.tenant(tenant.id) as db:
        for category in categories:
            await enable_category(db, category)
    return tenant


async def join(site: Site, name: str, *belongings: tuple[Tenant, Role]) -> Person:
    """Return a new person who belongs to these businesses."""
    email = f"{name.partition(' ')[0].lower()}-{secrets.token_hex(3)}@example.com"
    for tenant, role in belongings:
        membership = await add_member(site.runtime.database, tenant.id, email, name, role)
        await site.runtime.changes.publish(Change("access", tenant.id))
    return Person(site, membership.user_id, name, email)


async def invitation(site: Site, tenant: Tenant, email: str, role: Role, by: Person) -> str:
    """Invite somebody; return the path of the link that they get."""
    async with site.runtime.database.tenant(tenant.id) as db:
        signer = Signer(site.runtime.ring, PURPOSE)
        _, token = await invite(db, signer, email, role, invited_by_user_id=by.user_id)
    return f"/invitation?token={token}"
