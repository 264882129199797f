"""Page: a part of a list, cut by the sort key of its last row and not by counting from the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from mercato.tenancy.database import TenantDatabase

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, how many the filters find in all, and whether more follow."""

    items: Sequence[Item]
    total_count: int
    more: bool


async def read_page(
    db: TenantDatabase,
    filtered: sa.Select[Any],
    make: Callable[..., Item],
    *,
    order: Any,
    position: sa.ColumnElement[bool] | None,
    limit: int,
) -> Page[Item]:
    """Read what `filtered` finds, in this order, from a position on; None is the beginning. `make` gets the columns."""
    [(total,)] = await db.rows(filtered.with_only_columns(sa.func.count(), maintain_column_froms=True))
    positioned = filtered if position is None else filtered.where(position)
    rows = await db.rows(positioned.order_by(order).limit(limit + 1))
    return Page([make(*row) for row in rows[:limit]], total, len(rows) > limit)
