"""Days and times of a tenant: whole days in its own time zone, times in UTC and as its clocks show them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from mercato import Tenant, ToolError


def within_days(
    tenant: Tenant, column: sa.SQLColumnExpression[Any], first: date | None, last: date | None
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a time falls on a day from `first` to `last`, both included. Raises `ToolError`."""
    if first and last and first > last:
        raise ToolError(
            f"`date_from` ({first}) is after `date_to` ({last}).", field="date_to", next_step="Exchange the two."
        )
    conditions = []
    if first:
        conditions.append(column >= start_of_day(tenant, first))
    if last:
        conditions.append(column < start_of_day(tenant, last + timedelta(days=1)))
    return conditions


def start_of_day(tenant: Tenant, day: date) -> datetime:
    """Return the first moment of a day, in UTC; where clocks skip midnight, the moment they do."""
    return datetime.combine(day, time.min, ZoneInfo(tenant.timezone)).astimezone(UTC)


def local_time(tenant: Tenant, moment: datetime) -> datetime:
    """Return the same moment as the tenant's clocks show it, with the offset."""
    return moment.astimezone(ZoneInfo(tenant.timezone))
