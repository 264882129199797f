"""Every tool, called by one tenant with the ids of another's rows: nothing is shown, and nothing changes."""

from __future__ import annotations

import pytest

from tests.rows import arguments_with, fill, open_rows


@pytest.fixture(scope="module")
async def rows(anyio_backend, runtime, mercato_addresses):
    async with open_rows(mercato_addresses.database_url, runtime.plugins.loaded) as opened:
        yield opened


@pytest.fixture
async def filled(runtime, tenant):
    await fill(runtime, tenant)
    return tenant


async def test_no_tool_shows_or_changes_anything_of_another_tenant(runtime, rows, filled, other_mcp, other_tenant):
    ids, theirs = await rows.ids(filled.id), await rows.secrets(filled.id)
    assert {table.partition(".")[0] for table in ids} >= {"mercato", "commerce"}
    assert len(theirs) > 50
    before = await rows.contents(filled.id)
    for tool in runtime.catalog.tools.values():
        for row_id in sorted(set(ids.values())):
            arguments = arguments_with(tool, row_id)
            result = await other_mcp.call_tool(tool.name, arguments)
            said = result.model_dump_json()
            assert "internal_fault" not in said, f"{tool.name}({arguments})"
            assert "invalid_arguments" not in said, f"{tool.name}({arguments}): {said}"
            shown = [secret for secret in theirs if secret in said]
            assert shown == [], f"{tool.name}({arguments}) shows {shown[:3]}"
    assert await rows.contents(filled.id) == before
