"""Tenants: the businesses that mercato acts for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import available_timezones

import sqlalchemy as sa
from sqlmodel import Field, SQLModel, col, select

from mercato.tenancy.database import Database
from mercato.tenancy.errors import AlreadyExists, InvalidValue, NotFound
from mercato.tenancy.rows import CORE_SCHEMA, identity, timestamp

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as tools see it: plain data."""

    id: int
    slug: str
    name: str
    currency: str
    timezone: str


class TenantRecord(SQLModel, table=True):
    """A tenant's row. `currency` is ISO 4217, `timezone` an IANA name."""

    __tablename__ = "tenants"
    __table_args__ = (sa.UniqueConstraint("slug"), {"schema": CORE_SCHEMA})

    id: int = identity()
    slug: str
    name: str
    currency: str = Field(default="USD", sa_column_kwargs={"server_default": "USD"})
    timezone: str = Field(default="UTC", sa_column_kwargs={"server_default": "UTC"})
    created_at: datetime = timestamp(now=True)
    removed_at: datetime | None = timestamp(nullable=True)

    def plain(self) -> Tenant:
        """Return what tools may hold."""
        return Tenant(self.id, self.slug, self.name, self.currency, self.timezone)


async def create_tenant(
    database: Database, slug: str, name: str, *, currency: str = "USD", timezone: str = "UTC"
) -> Tenant:
    """Create a tenant. Raises `InvalidValue` or `AlreadyExists`."""
    _check(slug, name, currency, timezone)
    async with database.system() as session:
        if (await session.exec(select(TenantRecord.id).where(TenantRecord.slug == slug))).first() is not None:
            raise AlreadyExists(f"There is a tenant {slug!r} already.")
        record = TenantRecord(slug=slug, name=name, currency=currency, timezone=timezone)
        session.add(record)
        await session.flush()
        return record.plain()


async def list_tenants(database: Database) -> list[Tenant]:
    """Return every tenant that was not removed, by slug."""
    async with database.system() as session:
        present = select(TenantRecord).where(col(TenantRecord.removed_at).is_(None)).order_by(TenantRecord.slug)
        return [record.plain() for record in (await session.exec(present)).all()]


async def find_tenant(database: Database, slug: str) -> Tenant:
    """Return the tenant with this slug. Raises `NotFound`, which names those there are."""
    tenants = await list_tenants(database)
    for tenant in tenants:
        if tenant.slug == slug:
            return tenant
    known = ", ".join(tenant.slug for tenant in tenants[:10]) or "none yet; create one with `mercato tenant create`"
    raise NotFound(f"There is no tenant {slug!r}. Tenants: {known}.")


def _check(slug: str, name: str, currency: str, timezone: str) -> None:
    if not _SLUG.fullmatch(slug):
        raise InvalidValue(
            f"The slug {slug!r} cannot be used: lower-case letters, digits and hyphens, 1 to 48 of them."
        )
    if not name.strip():
        raise InvalidValue("The tenant's name is blank.")
    check_currency(currency)
    check_timezone(timezone)


def check_currency(currency: str) -> str:
    """Return an ISO 4217 code as it is. Raises `InvalidValue`."""
    if not _CURRENCY.fullmatch(currency):
        raise InvalidValue(f"{currency!r} is no ISO 4217 currency code, such as USD or EUR.")
    return currency


def check_timezone(timezone: str) -> str:
    """Return an IANA time zone name as it is. Raises `InvalidValue`."""
    if timezone not in available_timezones():
        raise InvalidValue(f"{timezone!r} is no IANA time zone, such as Europe/Berlin or UTC.")
    return timezone
