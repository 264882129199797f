"""Usage: how much the tenant's assistants called, and what that came to."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from mercato import Cursor, Limit, ToolContext, ToolError, admin, decode_cursor, encode_cursor
from mercato.plugins.system.category import system

_MOST_DAYS = 366


class UsageFigures(BaseModel):
    """What calls came to; those that a limit refused are not among them. Tokens are estimated at 3.9 bytes each."""

    calls: int
    errors: int
    mean_ms: float | None
    p95_ms: float | None
    request_bytes: int
    answer_bytes: int
    request_tokens: int
    answer_tokens: int
    cost_cents: int


class UsageGroup(UsageFigures):
    """The same of one tool, user, client or day; `key` is null where nobody stands behind the calls."""

    key: str | None
    name: str | None


class Usage(BaseModel):
    """`unrecorded_calls` were let in and are not among the `calls`: they still run, or a process was killed."""

    date_from: date
    date_to: date
    total: UsageFigures
    groups: list[UsageGroup]
    admitted_calls: int | None
    unrecorded_calls: int | None
    next_cursor: str | None


@system.tool(read_only=True, admin=True)
async def get_usage(
    ctx: ToolContext,
    by: Annotated[admin.UsageBy, Field(description="What to group by.")] = "tool",
    date_from: Annotated[date | None, Field(description="First day, in UTC; else 30 days up to the last.")] = None,
    date_to: Annotated[date | None, Field(description="Last day, in UTC; else today.")] = None,
    cursor: Cursor = None,
    limit: Limit = 10,
) -> Usage:
    """See how much was called and what it came to: errors, times, tokens, cost. The most called come first."""
    days = _days(date_from, date_to)
    purpose = f"usage:{by}:{days.first}:{days.last}"
    after = None if cursor is None else decode_cursor(cursor, purpose, (int, str))
    found = await admin.read_usage(ctx, by, days, after=after, limit=limit)
    admitted = await admin.count_admissions(ctx, days)
    return Usage(
        date_from=days.first,
        date_to=days.last,
        total=UsageFigures(**_figures(found.total)),
        groups=[UsageGroup(key=one.key or None, name=one.name, **_figures(one.consumed)) for one in found.groups],
        admitted_calls=admitted,
        unrecorded_calls=None if admitted is None else max(0, admitted - found.total.calls),
        next_cursor=encode_cursor((found.groups[-1].consumed.calls, found.groups[-1].key), purpose)
        if found.more
        else None,
    )


def _days(first: date | None, last: date | None) -> admin.Days:
    last = last or datetime.now(UTC).date()
    days = admin.Days.up_to(last) if first is None else admin.Days(first, last)
    if days.first > days.last:
        raise ToolError(f"`date_from` ({days.first}) is after `date_to` ({days.last}).", field="date_to")
    if (days.last - days.first).days >= _MOST_DAYS:
        raise ToolError(f"At most {_MOST_DAYS} days can be seen at once.", field="date_from")
    return days


def _figures(consumed: admin.Consumed) -> dict[str, float | int | None]:
    figures = {name: getattr(consumed, name) for name in UsageFigures.model_fields}
    return figures | {name: figures[name] and round(figures[name], 1) for name in ("mean_ms", "p95_ms")}
