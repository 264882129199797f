"""Access: what a tenant has switched on and connected, read by one query and kept until it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from mercato.tenancy.assistant import SECTION, AssistantSettings, assistant_settings
from mercato.tenancy.connections import Connection
from mercato.tenancy.database import Database, Statement, TenantDatabase
from mercato.tenancy.grants import DisabledTool, Grant
from mercato.tenancy.limits import STANDARD, Limits, own_limits
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity
from mercato.tenancy.tenants import Tenant, TenantRecord


class TenantSetting(TenantOwned, table=True):
    """The tenant's own settings of one plugin, as its tenant model wrote them."""

    __tablename__ = "tenant_settings"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "section"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    section: str
    values: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSONB, sa_column_kwargs={"server_default": sa.text("'{}'::jsonb")}
    )


@dataclass(frozen=True, slots=True)
class Access:
    """What one tenant has on: its side of every decision that the gate takes."""

    tenant: Tenant
    categories: frozenset[str]
    disabled_tools: frozenset[str]
    integrations: frozenset[str]
    settings: Mapping[str, Mapping[str, Any]]
    limits: Limits
    assistant: AssistantSettings
    unconfirmed: frozenset[str]


async def load_access(database: Database, tenant_id: int, limits: Limits = STANDARD) -> Access | None:
    """Read a tenant's access; None where the tenant was removed. `limits` hold where it has none of its own."""
    async with database.tenant(tenant_id, read_only=True) as db:
        rows = await db.rows(_statement())
    if not rows:
        return None
    row = rows[0]
    return Access(
        tenant=Tenant(row.id, row.slug, row.name, row.currency, row.timezone),
        categories=frozenset(row.categories or ()),
        disabled_tools=frozenset(row.disabled_tools or ()),
        integrations=frozenset(row.integrations or ()),
        settings=row.settings or {},
        limits=limits.overridden(row.limits or {}),
        assistant=(assistant := assistant_settings((row.settings or {}).get(SECTION, {}))),
        unconfirmed=frozenset(assistant.unconfirmed_categories),
    )


def _statement() -> Statement:
    tenant = sa.inspect(TenantRecord).local_table
    return sa.select(
        tenant.c.id,
        tenant.c.slug,
        tenant.c.name,
        tenant.c.currency,
        tenant.c.timezone,
        _array_of(Grant, "category").label("categories"),
        _array_of(DisabledTool, "tool").label("disabled_tools"),
        _array_of(Connection, "integration").label("integrations"),
        _settings().label("settings"),
        own_limits().label("limits"),
    ).where(tenant.c.removed_at.is_(None))


def _array_of(model: type[TenantOwned], column: str) -> sa.ScalarSelect[Any]:
    table = sa.inspect(model).local_table
    return sa.select(sa.func.array_agg(sa.distinct(table.c[column]))).scalar_subquery()


def _settings() -> sa.ScalarSelect[Any]:
    table = sa.inspect(TenantSetting).local_table
    return sa.select(sa.func.jsonb_object_agg(table.c.section, table.c["values"])).scalar_subquery()


async def merge_settings(db: TenantDatabase, section: str, values: Mapping[str, Any]) -> None:
    """Store values over the section's present ones, key by key, by one statement that no other can tear."""
    table = sa.inspect(TenantSetting).local_table
    insert = postgresql.insert(TenantSetting).values(section=section, values=dict(values))
    merged = table.c["values"].op("||")(insert.excluded["values"])
    await db.session.exec(
        insert.on_conflict_do_update(index_elements=["tenant_id", "section"], set_={"values": merged})
    )
