"""Invitations: a link that lets one person join one tenant, once, within seven days."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import col, select

from mercato.tenancy import audit
from mercato.tenancy.accounts import Identity, User, clean_email
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import NotFound
from mercato.tenancy.memberships import Membership, Role, admit
from mercato.tenancy.passwords import Password
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, reference, timestamp, utc_now
from mercato.tenancy.signing import Signer
from mercato.tenancy.tenants import TenantRecord

GOOD_FOR = timedelta(days=7)
PURPOSE = "invitation"
_TOKEN = struct.Struct(">qq")


class Invitation(TenantOwned, table=True):
    """Somebody was asked to join, as this role. It is good until it was accepted, revoked or has expired."""

    __tablename__ = "invitations"
    __table_args__ = (
        sa.CheckConstraint("role in ('owner', 'admin', 'manager', 'member', 'viewer')", name="role"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        sa.Index(None, "tenant_id", "email"),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    email: str
    role: str
    invited_by_user_id: int | None = reference(nullable=True)
    created_at: datetime = timestamp(now=True)
    expires_at: datetime = timestamp()
    accepted_at: datetime | None = timestamp(nullable=True)
    revoked_at: datetime | None = timestamp(nullable=True)


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation that is good, as its page shows it. `user_id` and `has_sign_in` are of the invited account."""

    id: int
    tenant_id: int
    tenant_name: str
    email: str
    role: Role
    invited_by: str | None
    expires_at: datetime
    user_id: int | None
    has_sign_in: bool


async def invite(
    db: TenantDatabase, signer: Signer, email: str, role: Role, *, invited_by_user_id: int | None
) -> tuple[Invitation, str]:
    """Invite a person; return the invitation and its token. Earlier ones of the same address are revoked."""
    address = clean_email(email)
    await withdraw(db, address)
    row = Invitation(email=address, role=role, invited_by_user_id=invited_by_user_id, expires_at=utc_now() + GOOD_FOR)
    db.session.add(row)
    await db.session.flush()
    return row, signer.sign(_TOKEN.pack(row.tenant_id, row.id))


async def withdraw(db: TenantDatabase, email: str) -> None:
    """Revoke the open invitations of an address."""
    open_ones = sa.update(Invitation).where(
        col(Invitation.email) == email, col(Invitation.accepted_at).is_(None), col(Invitation.revoked_at).is_(None)
    )
    await db.session.exec(open_ones.values(revoked_at=utc_now()))


async def find_invitation(database: Database, signer: Signer, token: str) -> Invited:
    """Return the invitation of a token. Raises `NotFound` where it is not good (any more), whatever the reason."""
    payload = signer.verify(token)
    if payload is None or len(payload) != _TOKEN.size:
        raise NotFound("This invitation is not good: the link is not complete.")
    tenant_id, invitation_id = _TOKEN.unpack(payload)
    async with database.system() as session:
        found = (
            await session.exec(
                select(Invitation, TenantRecord.name, User.id, Membership.changed_at)
                .join(TenantRecord, col(TenantRecord.id) == Invitation.tenant_id)
                .outerjoin(User, col(User.email) == Invitation.email)
                .outerjoin(Membership, _of_the_same())
                .where(Invitation.id == invitation_id, Invitation.tenant_id == tenant_id)
                .where(col(TenantRecord.removed_at).is_(None))
            )
        ).first()
        if found is None or not _is_good(found[0], found[3]):
            raise NotFound("This invitation has been used, was withdrawn or has expired: ask for a new one.")
        row, tenant_name, user_id, _ = found
        inviter = select(User.name).where(User.id == row.invited_by_user_id)
        invited_by = (await session.exec(inviter)).first() if row.invited_by_user_id else None
        ways = sa.or_(
            sa.exists().where(col(Password.user_id) == user_id), sa.exists().where(col(Identity.user_id) == user_id)
        )
        has_sign_in = user_id is not None and bool((await session.exec(select(ways))).one())
    return Invited(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant_name=tenant_name,
        email=row.email,
        role=Role(row.role),
        invited_by=invited_by,
        expires_at=row.expires_at,
        user_id=user_id,
        has_sign_in=has_sign_in,
    )


async def accept_invitation(database: Database, invited: Invited, user_id: int) -> None:
    """Use an invitation up and make the account a member, both or neither. Raises `NotFound` where it is used up."""
    used = (
        sa.update(Invitation)
        .where(
            col(Invitation.id) == invited.id,
            col(Invitation.accepted_at).is_(None),
            col(Invitation.revoked_at).is_(None),
            col(Invitation.expires_at) > utc_now(),
        )
        .values(accepted_at=utc_now())
        .returning(col(Invitation.created_at))
    )
    changed = select(Membership.changed_at).where(Membership.user_id == user_id)
    async with database.tenant(invited.tenant_id) as db:
        made = (await db.session.exec(used)).scalar()
        decided = (await db.session.exec(changed)).first()
        if made is None or (decided is not None and decided > made):
            raise NotFound("This invitation has just been used: ask for a new one.")
        membership = await admit(db, user_id, invited.role)
        principal = Principal(
            tenant_id=invited.tenant_id,
            user_id=user_id,
            role=Role(membership.role),
            scopes=frozenset({READ, WRITE}),
            categories=None,
            kind="session",
            client_id="browser",
        )
        given = {"invitation": invited.id, "email": invited.email}
        audit.record(db, principal, "invitation.accept", given, {"role": str(invited.role)})


def _is_good(row: Invitation, decided_at: datetime | None) -> bool:
    """Whether it may be used: what was decided about the member since then counts more."""
    overtaken = decided_at is not None and decided_at > row.created_at
    return not overtaken and row.accepted_at is None and row.revoked_at is None and row.expires_at > utc_now()


def _of_the_same() -> sa.ColumnElement[bool]:
    return sa.and_(col(Membership.tenant_id) == col(Invitation.tenant_id), col(Membership.user_id) == col(User.id))
