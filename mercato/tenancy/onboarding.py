"""Onboarding: a tenant with its owner and the categories it starts with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlmodel import col, select

from mercato.tenancy import audit
from mercato.tenancy.accounts import Identity, User, clean_email, clean_name, ensure_account
from mercato.tenancy.database import Database
from mercato.tenancy.errors import NotFound
from mercato.tenancy.grants import enable_category
from mercato.tenancy.memberships import Membership, Role, admit
from mercato.tenancy.passwords import Password
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.tenants import Tenant, TenantRecord, create_tenant

_FIRST_LOCK = 0x6D66697273740A  # "mfirst"


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
    async with database.system() as session:
        user = await ensure_account(session, address, clean_name(address.partition("@")[0]))
    switched_on = sorted(categories)
    async with database.tenant(tenant.id) as db:
        await admit(db, user.id, Role.OWNER)
        for category in switched_on:
            await enable_category(db, category)
        principal = _owner(tenant, user.id)
        audit.record(db, principal, "tenant.create", {"slug": slug, "name": name}, {"categories": switched_on})
    return tenant


@asynccontextmanager
async def first_set_up(database: Database) -> AsyncIterator[bool]:
    """Hold the first set-up for as long as the block runs; say whether it is still to be done, and by nobody else."""
    async with database.system() as session:
        held = (await session.exec(select(sa.func.pg_try_advisory_xact_lock(_FIRST_LOCK)))).one()
        yield bool(held) and (await session.exec(_owners_with_a_way_in())).first() is None


async def no_owner_can_sign_in(database: Database) -> bool:
    """Whether no owner of any tenant has a way in yet: the state in which the first set-up is awaited."""
    async with database.system() as session:
        return (await session.exec(_owners_with_a_way_in())).first() is None


async def people_who_signed_in(database: Database) -> int:
    """Return how many people have ever signed in to pages here: a number that only grows."""
    async with database.system() as session:
        return (await session.exec(select(sa.func.count()).where(col(User.last_login_at).is_not(None)))).one()


def _owners_with_a_way_in() -> Any:
    user_id = col(Membership.user_id)
    password = sa.exists().where(col(Password.user_id) == user_id)
    elsewhere = sa.exists().where(col(Identity.user_id) == user_id)
    return (
        select(Membership.id)
        .join(TenantRecord, col(TenantRecord.id) == Membership.tenant_id)
        .where(Membership.role == Role.OWNER, col(Membership.removed_at).is_(None))
        .where(col(TenantRecord.removed_at).is_(None), sa.or_(password, elsewhere))
        .limit(1)
    )


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
    return _owner(tenant, owner.user_id)


def _owner(tenant: Tenant, user_id: int) -> Principal:
    return Principal(
        tenant_id=tenant.id,
        user_id=user_id,
        role=Role.OWNER,
        scopes=frozenset({READ, WRITE}),
        categories=None,
        kind="local",
        client_id="terminal",
    )
