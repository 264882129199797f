"""Used assertions: a client proves itself with each signed assertion once, on whichever replica."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlmodel import Field, SQLModel, col

from mercato.tenancy.database import Database
from mercato.tenancy.rows import CORE_SCHEMA, timestamp
from mercato.tenancy.signing import digest


class UsedAssertion(SQLModel, table=True):
    """An assertion that was shown, until it would have expired anyway."""

    __tablename__ = "used_assertions"
    __table_args__ = (sa.Index(None, "expires_at"), {"schema": CORE_SCHEMA})

    digest: bytes = Field(sa_type=sa.LargeBinary, primary_key=True)
    expires_at: datetime = timestamp()


async def use_assertion(database: Database, client_id: str, assertion_id: str, expires_at: datetime) -> bool:
    """Note that an assertion was shown; return whether that was the first time."""
    key = digest(f"{client_id}\n{assertion_id}")
    insert = postgresql.insert(UsedAssertion).values(digest=key, expires_at=expires_at).on_conflict_do_nothing()
    async with database.system() as session:
        return (await session.exec(insert.returning(col(UsedAssertion.digest)))).first() is not None


async def purge_assertions(database: Database, now: datetime) -> int:
    """Forget assertions that have expired; return how many."""
    async with database.system() as session:
        return (await session.exec(sa.delete(UsedAssertion).where(col(UsedAssertion.expires_at) < now))).rowcount
