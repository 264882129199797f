"""The months of usage: each is a partition, made before its first record, and dropped whole."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa

from mercato.tenancy.database import Database


def months_after(day: date, months: int) -> date:
    """Return the first day of the month that is so many after the one of a day, or before it."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


async def make_month(database: Database, month: date) -> bool:
    """Make the partition of a month; return whether there was none."""
    return bool(await _call(database, _MAKE, month))


async def drop_months_before(database: Database, month: date) -> int:
    """Drop every month before one, with all its records; return how many."""
    return await _call(database, _DROP, month)


async def _call(database: Database, statement: sa.TextClause, month: date) -> int:
    async with database.system() as session:
        return int(await (await session.connection()).scalar(statement, {"month": month}) or 0)


_MAKE = sa.text("select mercato.make_usage_partition(:month)")
_DROP = sa.text("select mercato.drop_usage_before(:month)")
