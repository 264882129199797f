"""Limits: how much a tenant may use. The deployment's, unless an operator has set others for the tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlmodel import Field

from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.rows import CORE_SCHEMA, TenantOwned, identity

MOST = 1_000_000_000
BUDGET = "cents_per_day"


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one tenant: calls a minute of all its people and keys together (`tenant`), of one of them
    (`caller`), of one tool by its `rate` (`read`, `write`, `heavy`), and of one caller's lists and other answers that
    cost little (`lists`); and what tools and jobs may spend on its behalf in a day.

    One caller may use all that the tenant has: most tenants are one person with one assistant.
    """

    tenant: int = 100
    caller: int = 100
    read: int = 100
    write: int = 60
    heavy: int = 10
    lists: int = 600
    cents_per_day: int = 500

    def overridden(self, own: Mapping[str, int]) -> Limits:
        """Return them with a tenant's own in the place of those that it has."""
        return replace(self, **own) if own else self


STANDARD = Limits()
NAMES = tuple(field.name for field in fields(Limits))


def _own_limit() -> Any:
    return Field(default=None, sa_type=sa.BigInteger, nullable=True)


class TenantLimits(TenantOwned, table=True):
    """The limits that an operator set for a tenant; null where the deployment's holds. Tools may read it, no more."""

    __tablename__ = "tenant_limits"
    __table_args__ = (
        sa.UniqueConstraint("tenant_id"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{CORE_SCHEMA}.tenants.id"]),
        {"schema": CORE_SCHEMA},
    )

    id: int = identity()
    tenant: int | None = _own_limit()
    caller: int | None = _own_limit()
    read: int | None = _own_limit()
    write: int | None = _own_limit()
    heavy: int | None = _own_limit()
    lists: int | None = _own_limit()
    cents_per_day: int | None = _own_limit()


def check_limit(name: str, most: int) -> None:
    """Raise `InvalidValue` where there is no such limit, or it cannot be that much."""
    check_names([name])
    least = 0 if name == BUDGET else 1
    if not least <= most <= MOST:
        raise InvalidValue(f"The limit {name} must be from {least} to {MOST:,}.")


def check_names(names: Sequence[str]) -> None:
    """Raise `InvalidValue`, which names them all, where there is no such limit."""
    for name in names:
        if name not in NAMES:
            raise InvalidValue(f"There is no limit {name!r}. Limits: {', '.join(NAMES)}.")


def own_limits() -> sa.ScalarSelect[Any]:
    """Return what reads a tenant's own limits by name, as a part of another statement."""
    table = sa.inspect(TenantLimits).local_table
    pairs = [part for name in NAMES for part in (sa.literal_column(f"'{name}'"), table.c[name])]
    return sa.select(sa.func.jsonb_strip_nulls(sa.func.jsonb_build_object(*pairs))).scalar_subquery()


async def read_own_limits(db: TenantDatabase) -> dict[str, int]:
    """Return the limits that were set for the tenant, by name."""
    ((own,),) = await db.rows(sa.select(own_limits()))
    return dict(own or {})


async def set_limit(database: Database, tenant_id: int, name: str, most: int) -> None:
    """Set one limit of a tenant. Raises `InvalidValue`."""
    check_limit(name, most)
    insert = postgresql.insert(TenantLimits).values(tenant_id=tenant_id, **{name: most})
    async with database.system() as session:
        await session.exec(insert.on_conflict_do_update(index_elements=["tenant_id"], set_={name: most}))


async def reset_limits(database: Database, tenant_id: int, names: Sequence[str]) -> None:
    """Let the deployment's limits hold for a tenant again. Raises `InvalidValue`."""
    check_names(names)
    table = sa.inspect(TenantLimits).local_table
    nothing = sa.update(TenantLimits).where(table.c.tenant_id == tenant_id).values(dict.fromkeys(names))
    async with database.system() as session:
        await session.exec(nothing)


def as_rows(limits: Limits, own: Mapping[str, int]) -> list[dict[str, object]]:
    """Return limits as a list shows them: what each is, for how long, and whether it is the tenant's own."""
    return [
        {"limit": name, "most": most, "per": "day" if name == BUDGET else "minute", "own": name in own}
        for name, most in asdict(limits).items()
    ]
