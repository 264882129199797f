"""What a tenant's calls came to over some days: in all, and by tool, user, client or day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, Self

import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.accounts import User
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.usage import OK, REPLAYED, UsageRecord

UsageBy = Literal["tool", "user", "client", "day"]


@dataclass(frozen=True, slots=True)
class Days:
    """Days in UTC, from the first to the last, both included."""

    first: date
    last: date

    @classmethod
    def up_to(cls, last: date, count: int = 30) -> Self:
        """Return so many days, of which this is the last."""
        return cls(date.fromordinal(max(1, last.toordinal() - count + 1)), last)

    def __iter__(self) -> Iterator[date]:
        """Go through them in order."""
        return (self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1))

    def cover(self, column: sa.SQLColumnExpression[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that a time falls on one of them."""
        after = date.fromordinal(min(self.last.toordinal() + 1, date.max.toordinal()))
        begin, end = (datetime.combine(day, time.min, UTC) for day in (self.first, after))
        return (column >= begin) & (column < end)


@dataclass(frozen=True, slots=True)
class Consumed:
    """What some calls came to. Calls that a limit refused are no part of it. Tokens are estimates."""

    calls: int
    errors: int
    mean_ms: float | None
    p95_ms: float | None
    request_bytes: int
    answer_bytes: int
    request_tokens: int
    answer_tokens: int
    cost_cents: int


@dataclass(frozen=True, slots=True)
class ConsumedBy:
    """The calls of one tool, user, client or day. `key` is empty where nobody stands behind them."""

    key: str
    name: str | None
    consumed: Consumed


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Everything together, some of its groups, and whether more follow."""

    total: Consumed
    groups: Sequence[ConsumedBy]
    more: bool


async def read_usage(
    db: TenantDatabase, by: UsageBy, days: Days, *, after: tuple[int, str] | None = None, limit: int
) -> UsageSummary:
    """Return what the calls of these days came to. The newest days come first, of all else what was called most.

    `after` is the calls and the key of the last group that was shown, to go on from there.
    """
    covered = days.cover(col(UsageRecord.at))
    [total] = await db.rows(sa.select(*_figures()).select_from(UsageRecord).where(covered))
    rows = await db.rows(_groups(by, after).where(covered).limit(limit + 1))
    groups = [ConsumedBy(row[0], row[1], Consumed(*row[2:])) for row in rows[:limit]]
    return UsageSummary(Consumed(*total), groups, len(rows) > limit)


def _groups(by: UsageBy, after: tuple[int, str] | None) -> sa.Select[Any]:
    name = sa.func.max(User.name) if by == "user" else sa.null()
    statement = sa.select(_KEYS[by].label("key"), name, *_figures()).select_from(UsageRecord).group_by("key")
    if by == "user":
        statement = statement.outerjoin(User, col(User.id) == UsageRecord.user_id)
    if after is not None:
        statement = statement.having(_follows(by, after))
    return statement.order_by(sa.desc("key")) if by == "day" else statement.order_by(_calls().desc(), sa.asc("key"))


_KEYS: dict[UsageBy, sa.SQLColumnExpression[str]] = {
    "tool": col(UsageRecord.tool),
    "user": sa.func.coalesce(sa.cast(col(UsageRecord.user_id), sa.Text), sa.literal_column("''")),
    "client": sa.func.coalesce(col(UsageRecord.client_id), sa.literal_column("''")),
    "day": sa.func.to_char(
        sa.func.timezone(sa.literal_column("'UTC'"), col(UsageRecord.at)), sa.literal_column("'YYYY-MM-DD'")
    ),
}
"""Their texts are no parameters: a parameter in the list of columns is another one in GROUP BY."""


def _follows(by: UsageBy, after: tuple[int, str]) -> sa.ColumnElement[bool]:
    calls, key = after
    if by == "day":
        return _KEYS[by] < key
    return (_calls() < calls) | ((_calls() == calls) & (_KEYS[by] > key))


def _figures() -> list[sa.ColumnElement[Any]]:
    duration = col(UsageRecord.duration_us)
    failed = col(UsageRecord.outcome).not_in((OK, REPLAYED))
    p95 = sa.func.percentile_cont(0.95).within_group(duration)
    return [
        _calls(),
        sa.func.count().filter(failed),
        sa.cast(sa.func.avg(duration), sa.Float) / 1_000,
        sa.cast(p95, sa.Float) / 1_000,
        *(sa.func.coalesce(sa.func.sum(col(column)), 0) for column in _SUMMED),
    ]


def _calls() -> sa.ColumnElement[int]:
    return sa.func.count()


_SUMMED: tuple[Any, ...] = (
    UsageRecord.request_bytes,
    UsageRecord.answer_bytes,
    UsageRecord.request_tokens,
    UsageRecord.answer_tokens,
    UsageRecord.cost_cents,
)
