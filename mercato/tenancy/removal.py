"""Removal: a member leaves, and with them everything that acts for them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import col, select

from mercato.tenancy.accounts import User
from mercato.tenancy.client_grants import ClientGrant
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.invitations import withdraw
from mercato.tenancy.keys import ApiKey
from mercato.tenancy.memberships import Membership, keep_an_owner
from mercato.tenancy.rows import utc_now


async def remove_member(db: TenantDatabase, membership_id: int) -> None:
    """End a membership with its keys, connected clients and open invitations: coming back brings none of them back.

    Raises `InvalidValue` for the last owner.
    """
    statement = select(Membership, User.email).join(User, col(User.id) == Membership.user_id)
    membership, email = (await db.session.exec(statement.where(Membership.id == membership_id))).one()
    await keep_an_owner(db, membership)
    now = utc_now()
    membership.removed_at, membership.changed_at = membership.removed_at or now, now
    keys = sa.update(ApiKey).where(col(ApiKey.membership_id) == membership_id, col(ApiKey.revoked_at).is_(None))
    await db.session.exec(keys.values(revoked_at=now))
    grants = sa.update(ClientGrant).where(
        col(ClientGrant.membership_id) == membership_id, col(ClientGrant.revoked_at).is_(None)
    )
    await db.session.exec(grants.values(revoked_at=now, revoked_because="the member was removed"))
    await withdraw(db, email)
