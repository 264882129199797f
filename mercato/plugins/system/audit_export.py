"""Export of the audit log: a file in parts, made in the background where the client can follow a task."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import mcp_types as mcp
import orjson
from pydantic import BaseModel, Field

from mercato import Reply, ToolContext, ToolError, admin
from mercato.plugins.system.audit import Time
from mercato.plugins.system.category import system

Format = Literal["json", "csv"]
MOST_ENTRIES = 200_000
_AT_ONCE = 2_000
_PART_CHARACTERS = 1_000_000
_COLUMNS = (
    "id",
    "at",
    "user_id",
    "user",
    "kind",
    "client_id",
    "request_id",
    "action",
    "arguments",
    "effect",
    "erased_at",
)
_MIME_TYPES: dict[Format, str] = {"json": "application/json", "csv": "text/csv"}
_ORDERS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""


class AuditExport(BaseModel):
    """An export that is ready: its parts are linked resources, each a whole file, until `expires_at`."""

    export_id: str
    format: Format
    entries: int
    parts: int
    characters: int
    expires_at: datetime


@system.tool(read_only=False, admin=True, rate="heavy", task="allowed", timeout_s=900)
async def export_audit_log(
    ctx: ToolContext,
    format: Annotated[Format, Field(description="`json` (a list of entries) or `csv`.")] = "json",  # noqa: A002  # the word that everybody expects here
    since: Annotated[Time | None, Field(description="From this time on, as 2026-01-31T00:00:00Z.")] = None,
    until: Annotated[Time | None, Field(description="Before this time.")] = None,
) -> Reply[AuditExport]:
    """Write the audit log, newest first, into a file that the answer links to. For more than a look: `get_audit_log`
    shows single entries. The file is there for seven days, for whoever asked for it.
    """
    if since is not None and until is not None and since >= until:
        raise ToolError("`until` must be later than `since`.", field="until")
    counted = _Counted()
    batches = _batches(ctx, counted, since, until)
    parts = _parts(batches, _json_part if format == "json" else _csv_part)
    export = await admin.store_export(ctx, f"audit.{format}", parts)
    shown = AuditExport(
        export_id=export.id,
        format=format,
        entries=counted.entries,
        parts=export.parts,
        characters=export.characters,
        expires_at=export.expires_at,
    )
    return Reply(shown, links=[_link(export.id, part, format) for part in range(1, export.parts + 1)])


def _link(export_id: str, part: int, written_as: Format) -> mcp.ResourceLink:
    return mcp.ResourceLink(
        name=f"audit-{part}.{written_as}",
        uri=f"mercato://audit-exports/{export_id}/{part}.{written_as}",
        mime_type=_MIME_TYPES[written_as],
    )


class _Counted:
    """How many entries were written so far."""

    entries = 0


async def _batches(
    ctx: ToolContext, counted: _Counted, since: datetime | None, until: datetime | None
) -> AsyncIterator[Sequence[admin.Entry]]:
    before_id: int | None = None
    total = 0
    while True:
        page = await admin.list_audit_entries(ctx, since=since, until=until, before_id=before_id, limit=_AT_ONCE)
        total = total or page.total_count
        if total > MOST_ENTRIES:
            raise ToolError(
                f"These are {total:,} entries; {MOST_ENTRIES:,} are the most for one export.",
                next_step="Export a shorter time with `since` and `until`.",
            )
        counted.entries += len(page.items)
        yield page.items
        await ctx.progress(counted.entries, total, f"{counted.entries:,} of {total:,} entries")
        if not page.more:
            return
        before_id = page.items[-1].id


async def _parts(
    batches: AsyncIterator[Sequence[admin.Entry]], written: Callable[[Sequence[dict[str, Any]]], str]
) -> AsyncIterator[str]:
    """Yield whole files, each begun anew once it is long; one that is empty where there is nothing."""
    held: list[dict[str, Any]] = []
    characters, any_yet = 0, False
    async for batch in batches:
        for entry in batch:
            row = {name: getattr(entry, name) for name in _COLUMNS}
            held.append(row)
            characters += len(orjson.dumps(row))
            if characters >= _PART_CHARACTERS:
                yield written(held)
                held, characters, any_yet = [], 0, True
    if held or not any_yet:
        yield written(held)


def _json_part(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(list(rows)).decode()


def _csv_part(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in _COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(_ORDERS) else text


@system.resource("mercato://audit-exports/{export_id}/{part}.json", mime_type="application/json")
async def audit_export_json(ctx: ToolContext, export_id: str, part: str) -> str:
    """A part of an export of the audit log, as a list of entries. `export_audit_log` makes it."""
    return await _read(ctx, export_id, part, "json")


@system.resource("mercato://audit-exports/{export_id}/{part}.csv", mime_type="text/csv")
async def audit_export_csv(ctx: ToolContext, export_id: str, part: str) -> str:
    """A part of an export of the audit log, as CSV with a header. `export_audit_log` makes it."""
    return await _read(ctx, export_id, part, "csv")


async def _read(ctx: ToolContext, export_id: str, part: str, written_as: Format) -> str:
    if not part.isascii() or not part.isdigit() or len(part) > 6 or not ctx.user.role.administers:
        raise LookupError(part)
    return await admin.read_export_part(ctx, f"audit.{written_as}", export_id, int(part))
