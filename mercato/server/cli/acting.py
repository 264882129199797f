"""How a command changes something of a tenant. Imported inside commands: it brings the database with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mercato.server.changes import Change
from mercato.server.runtime import Runtime
from mercato.tenancy import audit
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.tenants import Tenant, find_tenant


@dataclass(slots=True)
class Act:
    """A change under way. Without `changed` it leaves no entry in the audit; `effect` is what the entry says."""

    tenant: Tenant
    db: TenantDatabase
    effect: dict[str, Any] = field(default_factory=dict)
    changed: bool = True


@asynccontextmanager
async def acting(runtime: Runtime, slug: str, action: str, arguments: Mapping[str, Any]) -> AsyncIterator[Act]:
    """Open one transaction of a tenant, with its entry in the audit; every process is told of it afterwards."""
    tenant = await find_tenant(runtime.database, slug)
    principal = await local_principal(runtime.database, tenant)
    async with runtime.database.tenant(tenant.id) as db:
        act = Act(tenant, db)
        yield act
        if act.changed:
            audit.record(db, principal, action, arguments, act.effect)
    await runtime.changes.publish(Change("access", tenant.id))
