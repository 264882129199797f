"""Connected clients: what each may do, when it last did, and the end of it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from mercato.server.changes import Change
from mercato.server.oauth.clients import how_known
from mercato.server.site import MCP_PATH
from mercato.server.web.page import Visit, page
from mercato.tenancy import audit
from mercato.tenancy.client_grants import ShownGrant, list_grants, revoke_grant
from mercato.tenancy.clients import OAuthClient, find_clients
from mercato.tenancy.principal import READ, WRITE


@page
async def clients_page(visit: Visit) -> Response:
    """List them: one's own, and for owners and admins everybody's."""
    return await _list(visit, "clients.html")


@page
async def revoke_client(visit: Visit) -> Response:
    """End one: it is refused at its next call, everywhere."""
    belonging, grant_id = visit.belonging, visit.id("grant_id")
    mine_only = None if belonging.role.administers else visit.signed_in.user_id
    async with visit.runtime.database.tenant(belonging.tenant.id) as db:
        row = await revoke_grant(db, grant_id, user_id=mine_only)
        given, effect = {"grant": grant_id}, {"client_id": row.client_id, "client": row.client_name}
        request_id = visit.request.state.request_id
        audit.record(db, visit.principal(belonging), "client.revoke", given, effect, request_id=request_id)
    await visit.runtime.changes.publish(Change("access", belonging.tenant.id))
    notice = f"{row.client_name} has no access any more."
    if visit.request.headers.get("hx-request") == "true":
        return await _list(visit, "_grants.html", notice=notice)
    return await _list(visit, "clients.html", notice=notice)


async def _list(visit: Visit, template: str, *, notice: str | None = None) -> Response:
    belonging = visit.belonging
    mine_only = None if belonging.role.administers else visit.signed_in.user_id
    async with visit.runtime.database.tenant(belonging.tenant.id, read_only=True) as db:
        found = await list_grants(db, user_id=mine_only)
    clients = await find_clients(visit.runtime.database, (grant.client_id for grant in found))
    return visit.page(
        template,
        "Connected clients",
        page="clients",
        notice=notice,
        endpoint=visit.runtime.site.url(MCP_PATH),
        grants=[_shown(visit, grant, clients.get(grant.client_id)) for grant in found],
    )


def _shown(visit: Visit, grant: ShownGrant, client: OAuthClient | None) -> dict[str, Any]:
    categories = visit.runtime.catalog.categories
    may = [categories[scope].title for scope in grant.scopes if scope in categories]
    return {
        "id": grant.id,
        "client_name": grant.client_name,
        "host": grant.redirect_host,
        "how": how_known(client) if client is not None else "not known any more",
        "who": grant.who,
        "mine": grant.user_id == visit.signed_in.user_id,
        "may": may + [scope for scope in grant.scopes if scope not in {READ, WRITE, *categories}],
        "writes": WRITE in grant.scopes,
        "created_at": grant.created_at,
        "last_used_at": grant.last_used_at,
    }
