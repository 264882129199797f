"""What every table row that belongs to a tenant has in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING

CORE_SCHEMA = "mercato"
CURRENT_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def utc_now() -> datetime:
    """Return the present as an aware UTC time."""
    return datetime.now(UTC)


def identity() -> Any:
    """Return the primary key of every table: a bigint that the database counts up, short enough for a model to copy."""
    return Field(
        default=None,
        sa_type=sa.BigInteger,
        primary_key=True,
        sa_column_kwargs={"server_default": sa.Identity(always=False)},
    )


def reference(*, nullable: bool = False) -> Any:
    """Return a field that holds the `id` of another row; the foreign key itself is declared on the table."""
    if nullable:
        return Field(default=None, sa_type=sa.BigInteger, nullable=True)
    return Field(sa_type=sa.BigInteger, nullable=False)


def timestamp(*, nullable: bool = False, now: bool = False) -> Any:
    """Return a `timestamptz` field; with `now`, rows get the present by themselves."""
    options: dict[str, Any] = {"sa_type": sa.DateTime(timezone=True), "nullable": nullable}
    if now:
        return Field(default_factory=utc_now, sa_column_kwargs={"server_default": sa.func.now()}, **options)
    if nullable:
        return Field(default=None, **options)
    return Field(**options)


class TenantOwned(SQLModel):
    """Mixin of a table whose rows belong to a tenant.

    `tenant_id` is filled in from the transaction's tenant, by the database and by the session alike, and is never
    written by hand. The table needs `protect_tenant_rows` in its migration, and composite foreign keys to others.
    """

    tenant_id: int = Field(
        default=None,
        sa_type=sa.BigInteger,
        nullable=False,
        sa_column_kwargs={"server_default": sa.text(CURRENT_TENANT)},
    )
