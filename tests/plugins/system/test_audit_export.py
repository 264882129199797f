"""The export of the audit log: whole, in parts, for whoever had it made, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json

import pytest
from mcp.shared.exceptions import MCPError
from sqlmodel import select

from mercato.plugins.system import audit_export
from mercato.tenancy import exports
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.exports import ExportPart
from mercato.tenancy.rows import utc_now


@pytest.fixture
def history(database, tenant):
    async def write(count, **values):
        async with database.tenant(tenant.id) as db:
            for number in range(count):
                db.session.add(
                    AuditEntry(
                        **{"kind": "key", "action": "update_order", "arguments": {"n": number}, "effect": {}, **values}
                    )
                )
                await db.session.flush()

    return write


async def _export(mcp, **arguments):
    result = await mcp.call_tool("export_audit_log", arguments)
    links = [block for block in result.content if block.type == "resource_link"]
    return result.structured_content, links


async def _text(mcp, uri):
    return (await mcp.read_resource(str(uri))).contents[0]


async def test_json_has_every_entry_newest_first(mcp, history):
    await history(5)
    answer, links = await _export(mcp)
    content = await _text(mcp, links[0].uri)
    entries = [entry for entry in json.loads(content.text) if entry["action"] == "update_order"]
    assert content.mime_type == "application/json"
    assert answer["parts"] == len(links) == 1
    assert answer["entries"] == len(json.loads(content.text))
    assert [entry["arguments"]["n"] for entry in entries] == [4, 3, 2, 1, 0]


async def test_a_long_export_has_parts_that_are_whole_files_each(mcp, history, monkeypatch):
    monkeypatch.setattr(audit_export, "_PART_CHARACTERS", 600)
    monkeypatch.setattr(audit_export, "_AT_ONCE", 2)
    await history(9)
    answer, links = await _export(mcp, format="csv")
    rows = [row for link in links for row in csv.DictReader(io.StringIO((await _text(mcp, link.uri)).text))]
    numbers = [json.loads(row["arguments"])["n"] for row in rows if row["action"] == "update_order"]
    assert answer["parts"] == len(links) > 2
    assert numbers == list(range(8, -1, -1))


async def test_a_cell_that_a_spreadsheet_would_run_is_a_text(mcp, history):
    await history(1, client_id="=HYPERLINK(1)", action="@sum")
    _, links = await _export(mcp, format="csv")
    rows = list(csv.DictReader(io.StringIO((await _text(mcp, links[0].uri)).text)))
    hostile = next(row for row in rows if row["action"] == "'@sum")
    assert hostile["client_id"] == "'=HYPERLINK(1)"


async def test_an_empty_export_is_a_file_all_the_same(mcp):
    _, links = await _export(mcp, since="2001-01-01T00:00:00Z", until="2001-01-02T00:00:00Z")
    assert json.loads((await _text(mcp, links[0].uri)).text) == []


async def test_more_than_one_export_can_hold_is_refused_and_nothing_is_stored(
    mcp, history, monkeypatch, database, tenant
):
    monkeypatch.setattr(audit_export, "MOST_ENTRIES", 3)
    await history(4)
    result = await mcp.call_tool("export_audit_log", {})
    async with database.tenant(tenant.id) as db:
        stored = await db.rows(select(ExportPart.id))
    assert result.is_error
    assert "`since`" in result.content[0].text
    assert stored == []


async def test_the_exports_of_a_tenant_that_are_kept_have_a_bound(mcp, other_mcp, history, monkeypatch):
    await history(3)
    answer, _ = await _export(mcp)
    monkeypatch.setattr(exports, "MOST_CHARACTERS", answer["characters"] + 10)
    refused = await mcp.call_tool("export_audit_log", {})
    assert refused.is_error
    assert "seven days" in refused.content[0].text
    assert (await _export(other_mcp))[0]["parts"] == 1


async def test_another_tenant_and_another_person_find_no_export(mcp, other_mcp, history):
    await history(1)
    _, links = await _export(mcp)
    with pytest.raises(MCPError):
        await other_mcp.read_resource(str(links[0].uri))


@pytest.mark.parametrize("uri", ["mercato://audit-exports/x/1.json", "mercato://audit-exports/" + "0" * 32 + "/1.csv"])
async def test_an_export_that_is_not_there_is_a_clear_error(mcp, uri):
    with pytest.raises(MCPError, match="There is no resource"):
        await mcp.read_resource(uri)


async def test_exports_past_their_time_are_removed_once(mcp, history, database):
    await history(1)
    _, links = await _export(mcp)
    later = utc_now() + exports.KEPT
    assert await exports.purge_exports(database.pool, later) >= 1
    assert await exports.purge_exports(database.pool, later) == 0
    with pytest.raises(MCPError):
        await mcp.read_resource(str(links[0].uri))
