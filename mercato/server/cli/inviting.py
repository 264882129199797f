"""Links of invitations, as commands print them. Imported inside commands: it brings the database with it."""

from __future__ import annotations

from urllib.parse import quote

from mercato.server.cli.acting import acting
from mercato.server.runtime import Runtime
from mercato.tenancy.accounts import find_account
from mercato.tenancy.invitations import PURPOSE, invite
from mercato.tenancy.memberships import Role
from mercato.tenancy.signing import Signer
from mercato.tenancy.tenants import Tenant


async def invite_link(runtime: Runtime, tenant: Tenant, email: str, role: Role) -> str:
    """Invite somebody; return the link. Raises `InvalidValue`."""
    given = {"email": email, "role": str(role)}
    async with acting(runtime, tenant.slug, "invitation.create", given) as act:
        signer = Signer(runtime.ring, PURPOSE)
        row, token = await invite(act.db, signer, email, role, invited_by_user_id=None)
        act.effect["id"] = row.id
    base = runtime.settings.served_url or runtime.site.issuer
    return f"{base}/invitation?token={quote(token, safe='')}"


async def link_for(runtime: Runtime, tenant: Tenant, email: str, role: Role) -> str | None:
    """Return a link for a new member who has no way to sign in yet; None for one who has."""
    account = await find_account(runtime.database, email)
    return None if account.has_sign_in else await invite_link(runtime, tenant, account.email, role)
