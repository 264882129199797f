"""People: the members of a tenant, with the accounts behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.accounts import User
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.errors import NotFound
from mercato.tenancy.memberships import Membership, Role
from mercato.tenancy.pages import Page, read_page


@dataclass(frozen=True, slots=True)
class Person:
    """A member; `removed_at` says when one left who has left."""

    user_id: int
    name: str
    email: str
    role: str
    joined_at: datetime
    removed_at: datetime | None
    last_login_at: datetime | None


async def list_people(
    db: TenantDatabase, *, role: Role | None = None, search: str | None = None, after_id: int | None = None, limit: int
) -> Page[Person]:
    """Return the present members by user id, above one to go on from there; `search` looks in names and addresses."""
    user_id, name, email = col(Membership.user_id), col(User.name), col(User.email)
    present = _people().where(col(Membership.removed_at).is_(None))
    if role is not None:
        present = present.where(col(Membership.role) == role)
    if search is not None:
        present = present.where(name.icontains(search, autoescape=True) | email.icontains(search, autoescape=True))
    position = None if after_id is None else user_id > after_id
    return await read_page(db, present, Person, order=user_id, position=position, limit=limit)


async def find_person(db: TenantDatabase, user_id: int) -> Person:
    """Return a member, be it one who has left. Raises `NotFound`."""
    for row in await db.rows(_people().where(col(Membership.user_id) == user_id)):
        return Person(*row)
    raise NotFound(f"There is no user {user_id} here.")


def _people() -> sa.Select[Any]:
    columns: list[Any] = [
        Membership.user_id,
        User.name,
        User.email,
        Membership.role,
        Membership.created_at,
        Membership.removed_at,
        User.last_login_at,
    ]
    return sa.select(*columns).select_from(Membership).join(User, col(User.id) == Membership.user_id)
