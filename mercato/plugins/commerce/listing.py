"""Listing: rows in a fixed order, a page at a time, and how many there are in all.

Pages go on after the last row that was shown (a keyset of the sort key and the id), so that rows which come and go
between two pages neither repeat nor hide others. A cursor fits the tenant, the tool and the filters it was made for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mercato import ToolContext, decode_cursor, encode_cursor


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its rows, where the next one begins (None: there is none), and the number of rows on all pages."""

    rows: Sequence[sa.Row[Any]]
    next_cursor: str | None
    total_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What to list: `show` selects the columns, `counted` is the least that `where` needs to count the rows.

    `name` and `filters` are what a cursor is good for. `id` decides between rows of the same `key`.
    """

    name: str
    filters: tuple[Any, ...]
    show: sa.Select[Any]
    counted: Any
    where: Sequence[sa.ColumnElement[bool]]
    key: sa.SQLColumnExpression[Any]
    id: sa.SQLColumnExpression[int]
    ascending: bool = False

    async def page(self, ctx: ToolContext, cursor: str | None, limit: int) -> Page:
        """Return one page, in two statements. Raises `ToolError` for a cursor that is not of this listing."""
        purpose = self._purpose(ctx.tenant.id)
        statement = self._page_statement(cursor, purpose, limit)
        count = sa.select(sa.func.count()).select_from(self.counted).where(*self.where)
        total = (await ctx.db.rows(count))[0][0]
        rows = await ctx.db.rows(statement)
        more = len(rows) > limit
        last = rows[limit - 1] if more else None
        next_cursor = encode_cursor((last.sort_key, last.sort_id), purpose) if last is not None else None
        return Page(rows[:limit], next_cursor, total)

    def _page_statement(self, cursor: str | None, purpose: str, limit: int) -> sa.Select[Any]:
        statement = self.show.add_columns(self.key.label("sort_key"), self.id.label("sort_id")).where(*self.where)
        if cursor is not None:
            statement = statement.where(self._beyond(*decode_cursor(cursor, purpose, (self._key_type, int))))
        order = (self.key.asc(), self.id.asc()) if self.ascending else (self.key.desc(), self.id.desc())
        return statement.order_by(*order).limit(limit + 1)

    def _beyond(self, key: Any, id: int) -> sa.ColumnElement[bool]:  # noqa: A002  # what it is called
        here = sa.tuple_(self.key, self.id)
        # A cursor's number may be too large for the column's own type.
        wide = sa.DateTime(timezone=True) if self._key_type is datetime else sa.BigInteger()
        there = sa.tuple_(sa.literal(key, wide), sa.literal(id, sa.BigInteger()))
        return here > there if self.ascending else here < there

    @property
    def _key_type(self) -> type:
        return datetime if isinstance(self.key.label(None).type, sa.DateTime) else int

    def _purpose(self, tenant_id: int) -> str:
        digest = hashlib.sha256(repr((tenant_id, self.filters)).encode()).hexdigest()
        return f"{self.name}:{digest[:12]}"


def contains(query: str, *columns: Any) -> sa.ColumnElement[bool]:
    """Return the condition that a text stands in one of the columns, in any case; `%` and `_` are plain characters."""
    return sa.or_(*(column.icontains(query, autoescape=True) for column in columns))


def same_text(column: Any, text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column holds this text, in any case."""
    return sa.func.lower(column) == sa.func.lower(text)
