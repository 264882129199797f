"""Users: people, who may be members of several tenants."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import SQLModel

from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.rows import CORE_SCHEMA, identity, timestamp


class User(SQLModel, table=True):
    """A person. The e-mail address is unique without regard to case and kept in lower case."""

    __tablename__ = "users"
    __table_args__ = (sa.UniqueConstraint("email"), {"schema": CORE_SCHEMA})

    id: int = identity()
    email: str
    name: str
    created_at: datetime = timestamp(now=True)
    last_login_at: datetime | None = timestamp(nullable=True)


def clean_email(email: str) -> str:
    """Return the address in the form that is stored. Raises `InvalidValue`."""
    cleaned = email.strip().lower()
    local, _, domain = cleaned.partition("@")
    if not local or "." not in domain or any(part.isspace() for part in cleaned) or len(cleaned) > 254:
        raise InvalidValue(f"{email!r} is no e-mail address.")
    return cleaned
