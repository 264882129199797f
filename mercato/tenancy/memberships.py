"""Memberships: who belongs to a tenant, and as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import col, select

from mercato.tenancy.accounts import User, clean_email, clean_name, ensure_account
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp, utc_now
from mercato.tenancy.tenants import Tenant, TenantRecord


class Role(StrEnum):
    """What a member may do, from most to least."""

    OWNER = "owner"
    ADMIN = "admin"
    MANAGER = "manager"
    MEMBER = "member"
    VIEWER = "viewer"

    @property
    def administers(self) -> bool:
        """Whether the role may use what is for admins only."""
        return self in {Role.OWNER, Role.ADMIN}

    @property
    def writes(self) -> bool:
        """Whether the role may change anything at all."""
        return self is not Role.VIEWER


class Membership(TenantOwned, table=True):
    """One person in one tenant. A membership that was ended stays, as `removed_at`, for the audit.

    `changed_at` is when its role was last given or taken: an invitation from before that is void.
    """

    __tablename__ = "memberships"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "id"),
        sa.UniqueConstraint("tenant_id", "user_id"),
        sa.CheckConstraint("role in ('owner', 'admin', 'manager', 'member', 'viewer')", name="role"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.ForeignKeyConstraint(["user_id"], [f"{CORE_SCHEMA}.users.id"]),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    user_id: int = reference()
    role: str
    created_at: datetime = timestamp(now=True)
    changed_at: datetime = timestamp(now=True)
    removed_at: datetime | None = timestamp(nullable=True)


@dataclass(frozen=True, slots=True)
class Belonging:
    """One tenant that a person belongs to, and as what."""

    membership_id: int
    role: Role
    tenant: Tenant


def check_role(role: str) -> Role:
    """Return the role of this name. Raises `InvalidValue`, which names them all."""
    try:
        return Role(role)
    except ValueError:
        raise InvalidValue(f"There is no role {role!r}. Roles: {', '.join(Role)}.") from None


async def add_member(database: Database, tenant_id: int, email: str, name: str, role: Role) -> Membership:
    """Make a person a member, or change the role of one who is. The account is created if there is none.

    Raises `InvalidValue` where the tenant would be left without an owner.
    """
    address = clean_email(email)
    async with database.system() as session:
        user = await ensure_account(session, address, clean_name(name))
    async with database.tenant(tenant_id) as db:
        return await admit(db, user.id, role)


async def admit(db: TenantDatabase, user_id: int, role: Role) -> Membership:
    """Make an account a member in the transaction at hand, or change its role. Raises as `add_member`."""
    membership = (await db.session.exec(select(Membership).where(Membership.user_id == user_id))).first()
    if membership is None:
        membership = Membership(user_id=user_id, role=role)
        db.session.add(membership)
    elif role is not Role.OWNER:
        await keep_an_owner(db, membership)
    membership.role, membership.removed_at, membership.changed_at = role, None, utc_now()
    await db.session.flush()
    return membership


async def keep_an_owner(db: TenantDatabase, leaving: Membership) -> None:
    """Refuse to let the last owner go: raises `InvalidValue`. The owners are locked, so that two cannot go at once."""
    present = select(Membership).where(Membership.role == Role.OWNER, col(Membership.removed_at).is_(None))
    owners = (await db.session.exec(present.order_by(col(Membership.id)).with_for_update())).all()
    if [owner.id for owner in owners] == [leaving.id]:
        raise InvalidValue("This is the tenant's last owner: make somebody else an owner first.")


async def find_member(database: Database, tenant: Tenant, email: str) -> Membership:
    """Return the membership of a person. Raises `NotFound`."""
    async with database.tenant(tenant.id) as db:
        member = (
            await db.session.exec(
                select(Membership)
                .join(User, col(User.id) == Membership.user_id)
                .where(User.email == clean_email(email), col(Membership.removed_at).is_(None))
            )
        ).first()
    if member is None:
        raise NotFound(f"{email} is no member of {tenant.slug}.")
    return member


async def read_membership(db: TenantDatabase, membership_id: int) -> Membership:
    """Return a present membership. Raises `NotFound`."""
    present = select(Membership).where(Membership.id == membership_id, col(Membership.removed_at).is_(None))
    membership = (await db.session.exec(present)).first()
    if membership is None:
        raise NotFound("This membership has ended.")
    return membership


async def memberships_of(database: Database, user_id: int) -> list[Belonging]:
    """Return the tenants that a person belongs to, by name."""
    async with database.system() as session:
        rows = await session.exec(
            select(Membership, TenantRecord)
            .join(TenantRecord, col(TenantRecord.id) == Membership.tenant_id)
            .where(Membership.user_id == user_id, col(Membership.removed_at).is_(None))
            .where(col(TenantRecord.removed_at).is_(None))
            .order_by(TenantRecord.name, TenantRecord.slug)
        )
        return [Belonging(member.id, Role(member.role), tenant.plain()) for member, tenant in rows]


def shown_first(belongings: Sequence[Belonging], chosen_tenant_id: int | None) -> Belonging | None:
    """Return the one that a person has chosen to see, else the first; None for somebody without any."""
    chosen = (one for one in belongings if one.tenant.id == chosen_tenant_id)
    return next(chosen, belongings[0] if belongings else None)


async def list_members(database: Database, tenant_id: int) -> list[dict[str, object]]:
    """Return the people of a tenant: id, email, name, role."""
    async with database.tenant(tenant_id, read_only=True) as db:
        rows = await db.rows(
            select(User.id, User.email, User.name, Membership.role)
            .join(Membership, col(Membership.user_id) == User.id)
            .where(col(Membership.removed_at).is_(None))
            .order_by(col(User.id))
        )
    return [dict(row._mapping) for row in rows]
