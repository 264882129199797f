"""The page of an invitation: join a tenant, with the account that one has or with a new one."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from mercato.server.changes import Change
from mercato.server.web.page import Visit, page
from mercato.server.web.sign_in import HOME, OF_A_PAIR, WINDOW_S, signed_in
from mercato.tenancy import accounts
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.invitations import PURPOSE, Invited, accept_invitation, find_invitation
from mercato.tenancy.memberships import Role
from mercato.tenancy.signing import Signer

_MAY = {
    Role.OWNER: "An owner may do everything, and decides who else may.",
    Role.ADMIN: "An admin may do everything but decide about owners.",
    Role.MANAGER: "A manager may see and change everything that is switched on.",
    Role.MEMBER: "A member may see and change what is switched on.",
    Role.VIEWER: "A viewer may look at everything, and change nothing.",
}


@page
async def invitation_page(visit: Visit) -> Response:
    """Show who invites to what."""
    token = visit.request.query_params.get("token", "")
    return _show(visit, token, await find_by_token(visit, token))


@page
async def accept(visit: Visit) -> Response:
    """Join, once."""
    token = visit.value("token")
    invited = await find_by_token(visit, token)
    try:
        user_id = await _person(visit, invited)
    except InvalidValue as error:
        field = "name" if not invited.has_sign_in and not visit.value("name").strip() else "password"
        return _show(visit, token, invited, errors={field: str(error)})
    await join(visit, invited, user_id)
    return await signed_in(visit, user_id, HOME)


async def join(visit: Visit, invited: Invited, user_id: int) -> None:
    """Make the person a member, and let every process know."""
    await accept_invitation(visit.runtime.database, invited, user_id)
    await visit.runtime.changes.publish(Change("access", invited.tenant_id))


async def find_by_token(visit: Visit, token: str) -> Invited:
    """Return the invitation of a token. Raises `NotFound`."""
    return await find_invitation(visit.runtime.database, Signer(visit.runtime.ring, PURPOSE), token)


async def _person(visit: Visit, invited: Invited) -> int:
    """Return who accepts: by their password, or with an account made now. Raises `InvalidValue`."""
    runtime, password = visit.runtime, visit.value("password")
    if invited.has_sign_in:
        name = f"invitation {invited.id}"
        if await runtime.throttle.count(name, WINDOW_S) > OF_A_PAIR:
            raise InvalidValue("There were too many attempts. Wait a quarter of an hour, then try again.")
        account = await accounts.sign_in(
            runtime.database, runtime.passwords, invited.email, password, lane=visit.address
        )
        if account is None:
            raise InvalidValue("This is not the password of your account.")
        return account.user_id
    name = accounts.clean_name(visit.value("name"))
    return await accounts.open_account(
        runtime.database, runtime.passwords, invited.email, name, password, lane=visit.address
    )


def _show(visit: Visit, token: str, invited: Invited, *, errors: dict[str, str] | None = None) -> Response:
    oidc = visit.runtime.settings.oidc
    shown: dict[str, Any] = {
        "tenant_name": invited.tenant_name,
        "role": str(invited.role),
        "role_text": _MAY[invited.role],
        "email": invited.email,
        "invited_by": invited.invited_by,
        "expires_at": invited.expires_at,
    }
    return visit.page(
        "invitation.html",
        f"Join {invited.tenant_name}",
        status=400 if errors else 200,
        token=token,
        invitation=shown,
        has_account=invited.has_sign_in,
        oidc_name=oidc.name if oidc else None,
        oidc_url=f"/sign-in/oidc?invitation={quote(token, safe='')}",
        errors=errors or {},
        values={"name": visit.value("name")},
    )
