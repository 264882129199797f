"""Onboarding: a tenant with its owner and the categories it starts with."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import col, select

from mercato.tenancy import audit
from mercato.tenancy.accounts import clean_email
from mercato.tenancy.database import Database
from mercato.tenancy.errors import NotFound
from mercato.tenancy.grants import enable_category
from mercato.tenancy.memberships import Membership, Role, add_member
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.tenants import Tenant, create_tenant


async def onboard_tenant(
    database: Database,
    slug: str,
    name: str,
    *,
    owner_email: str,
    categories: Iterable[str],
    currency: str = "USD",
    timezone: str = "UTC",
) -> Tenant:
    """Create a tenant, make a person its owner, and switch categories on. Raises `InvalidValue` or `AlreadyExists`."""
    address = clean_email(owner_email)
    tenant = await create_tenant(database, slug, name, currency=currency, timezone=timezone)
    await add_member(database, tenant.id, address, address.partition("@")[0], Role.OWNER)
    principal = await local_principal(database, tenant)
    switched_on = sorted(categories)
    async with database.tenant(tenant.id) as db:
        for category in switched_on:
            await enable_category(db, category)
        audit.record(db, principal, "tenant.create", {"slug": slug, "name": name}, {"categories": switched_on})
    return tenant


async def find_owner(database: Database, tenant: Tenant) -> Membership:
    """Return the membership of the tenant's first owner. Raises `NotFound`."""
    async with database.tenant(tenant.id) as db:
        owners = select(Membership).where(Membership.role == Role.OWNER, col(Membership.removed_at).is_(None))
        owner = (await db.session.exec(owners.order_by(col(Membership.id)))).first()
    if owner is None:
        raise NotFound(
            f"The tenant {tenant.slug!r} has no owner: `mercato user add E-MAIL --tenant {tenant.slug} --role owner`."
        )
    return owner


async def local_principal(database: Database, tenant: Tenant) -> Principal:
    """Return the principal of somebody at this machine's terminal: the tenant's owner, with every scope."""
    owner = await find_owner(database, tenant)
    return Principal(
        tenant_id=tenant.id,
        user_id=owner.user_id,
        role=Role.OWNER,
        scopes=frozenset({READ, WRITE}),
        categories=None,
        kind="local",
        client_id="terminal",
    )
