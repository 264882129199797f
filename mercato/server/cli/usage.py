"""`mercato usage`: what a tenant's calls came to."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, TenantSlug, read_settings, with_runtime
from mercato.server.cli.terminal import say, say_json, say_table, stop

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime
    from mercato.tenancy.usage_summary import Consumed, Days, UsageSummary

_MOST_GROUPS = 1_000


class By(StrEnum):
    """What to group by."""

    TOOL = "tool"
    USER = "user"
    CLIENT = "client"
    DAY = "day"


def usage(
    tenant: TenantSlug,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day, in UTC; else 30 days.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day, in UTC; else today.")
    ] = None,
    by: Annotated[By, typer.Option(help="What to group by.")] = By.TOOL,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a tenant's calls came to: how many, how long, how much. Tokens are estimated at 3.9 bytes each."""
    today = datetime.now(UTC).date()

    async def work(runtime: Runtime) -> tuple[Days, UsageSummary, int | None]:
        from mercato.tenancy.tenants import find_tenant
        from mercato.tenancy.usage_summary import read_usage

        days = _days(since, until, today)
        found = await find_tenant(runtime.database, tenant)
        async with runtime.database.tenant(found.id, read_only=True) as db:
            summary = await read_usage(db, by.value, days, limit=_MOST_GROUPS)
        return days, summary, await runtime.contexts.administration.admissions(found.id, days)

    days, summary, admitted = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(_as_json(days, summary, admitted))
    else:
        _show(tenant, by, days, summary)
        say(_account(summary.total.calls, admitted, running=days.last >= today))


def _days(since: datetime | None, until: datetime | None, today: date) -> Days:
    from mercato.server.usage.admissions import KEPT_DAYS
    from mercato.tenancy.usage_summary import Days

    last = until.date() if until else today
    days = Days(since.date(), last) if since else Days.up_to(last)
    if not 0 <= (days.last - days.first).days < KEPT_DAYS:
        stop(f"--since must not be after --until, nor {KEPT_DAYS} days or more before it.")
    return days


def _as_json(days: Days, summary: UsageSummary, admitted: int | None) -> dict[str, Any]:
    return {
        "since": days.first,
        "until": days.last,
        "total": asdict(summary.total),
        "groups": [{"key": one.key or None, "name": one.name, **asdict(one.consumed)} for one in summary.groups],
        "admitted": admitted,
        "unrecorded": None if admitted is None else admitted - summary.total.calls,
    }


def _show(tenant: str, by: By, days: Days, summary: UsageSummary) -> None:
    columns = (by, "calls", "errors", "mean ms", "p95 ms", "bytes in", "out", "~tokens in", "out", "cents")
    rows = [[one.name or one.key or "-", *_cells(one.consumed)] for one in summary.groups]
    say_table(f"Usage of {tenant}, {days.first} to {days.last}", columns, [*rows, ["in all", *_cells(summary.total)]])


def _cells(consumed: Consumed) -> list[str]:
    values = asdict(consumed).values()
    return ["-" if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in values]


def _account(recorded: int, admitted: int | None, *, running: bool) -> str:
    """Return what the two counts say together. Calls of a day that still lasts may be under way."""
    if admitted is None:
        return "How many calls were admitted is not known: Redis does not answer."
    missing = admitted - recorded
    if missing == 0:
        return f"{admitted:,} calls were admitted, and all are recorded."
    if missing < 0:
        return f"{-missing:,} calls are recorded that the counter does not know: Redis has lost data."
    if running:
        return f"{missing:,} calls were admitted and are not recorded: they still run, or a process was killed."
    return f"{missing:,} calls were admitted and not recorded: a process was killed."
