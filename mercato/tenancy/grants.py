"""What a tenant has switched on: whole categories, less single tools."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import select

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity, timestamp


class Grant(TenantOwned, table=True):
    """A category that the tenant has switched on."""

    __tablename__ = "grants"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "category"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    category: str
    created_at: datetime = timestamp(now=True)


class DisabledTool(TenantOwned, table=True):
    """A tool that the tenant has switched off in a category that is on."""

    __tablename__ = "disabled_tools"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "tool"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    tool: str
    created_at: datetime = timestamp(now=True)


async def enable_category(db: TenantDatabase, category: str) -> bool:
    """Switch a category on; return whether that changed anything."""
    if (await db.session.exec(select(Grant).where(Grant.category == category))).first() is not None:
        return False
    db.session.add(Grant(category=category))
    return True


async def disable_category(db: TenantDatabase, category: str) -> bool:
    """Switch a category off; return whether that changed anything."""
    grant = (await db.session.exec(select(Grant).where(Grant.category == category))).first()
    if grant is None:
        return False
    await db.session.delete(grant)
    return True


async def enable_tool(db: TenantDatabase, tool: str) -> bool:
    """Switch a tool on again; return whether that changed anything."""
    disabled = (await db.session.exec(select(DisabledTool).where(DisabledTool.tool == tool))).first()
    if disabled is None:
        return False
    await db.session.delete(disabled)
    return True


async def disable_tool(db: TenantDatabase, tool: str) -> bool:
    """Switch a tool off; return whether that changed anything."""
    if (await db.session.exec(select(DisabledTool).where(DisabledTool.tool == tool))).first() is not None:
        return False
    db.session.add(DisabledTool(tool=tool))
    return True
