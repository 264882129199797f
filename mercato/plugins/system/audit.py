"""Audit: who changed what, through whom."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from mercato import Cursor, Detail, Limit, ToolContext, ToolError, admin, decode_cursor, encode_cursor
from mercato.plugins.system.category import system

_LIST = "audit"


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:  # within a day of the calendar's ends
        raise ValueError("in UTC it has no date") from None


Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class AuditEntry(BaseModel):
    """One write: by whom (`kind` is how they signed in), what was asked, and what came of it.

    With `erased_at` the last two are gone: somebody asked for that.
    """

    id: int
    at: datetime
    at_local: datetime
    user_id: int | None
    user: str | None
    kind: str
    client_id: str | None
    request_id: str | None
    action: str
    arguments: dict[str, Any]
    effect: dict[str, Any] | None
    erased_at: datetime | None


class AuditLog(BaseModel):
    """A page of entries, newest first. `at` is UTC, `at_local` in `timezone`."""

    entries: list[AuditEntry]
    timezone: str
    total_count: int
    next_cursor: str | None


@system.tool(read_only=True, admin=True)
async def get_audit_log(
    ctx: ToolContext,
    user_id: Annotated[int | None, Field(ge=1, description="Only what this user did.")] = None,
    action: Annotated[
        str | None, Field(max_length=100, description="Only this tool or command, as update_tenant_config.")
    ] = None,
    since: Annotated[Time | None, Field(description="From this time on, as 2026-01-31T00:00:00Z.")] = None,
    until: Annotated[Time | None, Field(description="Before this time.")] = None,
    detail: Detail = "concise",
    cursor: Cursor = None,
    limit: Limit = 10,
) -> AuditLog:
    """See who changed what, newest first; filters combine. Secrets are masked. `full` adds what each change came to."""
    if since is not None and until is not None and since >= until:
        raise ToolError("`until` must be later than `since`.", field="until")
    page = await admin.list_audit_entries(
        ctx,
        user_id=user_id,
        action=action,
        since=since,
        until=until,
        before_id=None if cursor is None else decode_cursor(cursor, _LIST, (int,))[0],
        limit=limit,
    )
    return AuditLog(
        entries=[_entry(entry, ZoneInfo(ctx.tenant.timezone), full=detail == "full") for entry in page.items],
        timezone=ctx.tenant.timezone,
        total_count=page.total_count,
        next_cursor=encode_cursor((page.items[-1].id,), _LIST) if page.more else None,
    )


def _entry(entry: admin.Entry, zone: ZoneInfo, *, full: bool) -> AuditEntry:
    return AuditEntry(
        id=entry.id,
        at=entry.at,
        at_local=entry.at.astimezone(zone),
        user_id=entry.user_id,
        user=entry.user,
        kind=entry.kind,
        client_id=entry.client_id,
        request_id=entry.request_id,
        action=entry.action,
        arguments=entry.arguments,
        effect=entry.effect if full else None,
        erased_at=entry.erased_at,
    )
