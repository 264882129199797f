"""The end of a grant that no person has ended: told to every process, and kept in the tenant's audit."""

from __future__ import annotations

from starlette.requests import Request

from mercato.server.changes import Change
from mercato.server.runtime import Runtime
from mercato.tenancy import audit
from mercato.tenancy.memberships import Role
from mercato.tenancy.principal import Principal


async def grant_ended(runtime: Runtime, request: Request, tenant_id: int, client_id: str, because: str) -> None:
    """Tell of it. The client acted by itself, or something acted in its name: no user stands in the entry."""
    await runtime.changes.publish(Change("access", tenant_id))
    nobody = frozenset[str]()
    principal = Principal(tenant_id, None, Role.VIEWER, nobody, nobody, "token", client_id=client_id)
    async with runtime.database.tenant(tenant_id) as db:
        request_id = request.state.request_id
        audit.record(db, principal, "client.end", {"client_id": client_id}, {"because": because}, request_id=request_id)
