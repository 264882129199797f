"""Users: the members of the tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mercato import Cursor, Limit, ToolContext, admin, decode_cursor, encode_cursor
from mercato.plugins.system.category import system

_LIST = "users"


class User(BaseModel):
    """A member of the tenant; `removed` is one who has left. Times are UTC."""

    id: int
    name: str
    email: str
    role: str
    status: Literal["active", "removed"]
    joined_at: datetime
    last_login_at: datetime | None


class Users(BaseModel):
    """A page of members."""

    users: list[User]
    total_count: int
    next_cursor: str | None


@system.tool(read_only=True)
async def list_users(
    ctx: ToolContext,
    role: Annotated[admin.Role | None, Field(description="Only members with this role.")] = None,
    search: Annotated[
        str | None, Field(min_length=1, max_length=200, description="Part of a name or e-mail address.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 25,
) -> Users:
    """List who belongs to the tenant now, with role. Who has left can still be had with `get_user`."""
    after_id = None if cursor is None else decode_cursor(cursor, _LIST, (int,))[0]
    page = await admin.list_users(ctx, role=role, search=search, after_id=after_id, limit=limit)
    return Users(
        users=[_user(person) for person in page.items],
        total_count=page.total_count,
        next_cursor=encode_cursor((page.items[-1].user_id,), _LIST) if page.more else None,
    )


@system.tool(read_only=True)
async def get_user(ctx: ToolContext, user_id: Annotated[int, Field(ge=1, description="`id` of a user.")]) -> User:
    """Get one member of the tenant by id, be it one who has left. To find somebody by name use `list_users`."""
    return _user(await admin.find_user(ctx, user_id))


def _user(person: admin.Person) -> User:
    return User(
        id=person.user_id,
        name=person.name,
        email=person.email,
        role=person.role,
        status="active" if person.removed_at is None else "removed",
        joined_at=person.joined_at,
        last_login_at=person.last_login_at,
    )
