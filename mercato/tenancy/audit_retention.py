"""Retention of the audit: the beginning of every tenant's chain goes when it is old enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mercato.tenancy.alerts import Cause
from mercato.tenancy.audit_pruning import prune
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.database import Database
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.memberships import Role
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.tenants import list_tenants


@dataclass(frozen=True, slots=True)
class PrunedAll:
    """How many entries went, and the tenants whose chains do not hold: of those nothing went."""

    entries: int
    broken: Sequence[Cause]


async def prune_all(database: Database, signer: AuditSigner, before: datetime) -> PrunedAll:
    """Remove every tenant's entries from before a time, one tenant after another."""
    entries, broken = 0, []
    for tenant in await list_tenants(database):
        try:
            entries += (await prune(database, signer, _retention(tenant.id), before)).entries
        except InvalidValue as error:
            text = f"The audit of {tenant.slug} cannot be pruned. {error} `mercato audit verify` says more."
            broken.append(Cause("audit.broken", "critical", text, tenant.id))
    return PrunedAll(entries, broken)


def _retention(tenant_id: int) -> Principal:
    """Return who the entry of the pruning names: nobody, at the deployment."""
    return Principal(
        tenant_id=tenant_id,
        user_id=None,
        role=Role.OWNER,
        scopes=frozenset({READ, WRITE}),
        categories=None,
        kind="local",
        client_id="retention",
    )
