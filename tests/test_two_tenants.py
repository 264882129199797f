"""Every tool, called by one tenant with the ids of another's rows: nothing is shown, and nothing changes."""

from __future__ import annotations

import hashlib
import re

import asyncpg
import pytest

from mercato.plugins.importers import ImportContext
from mercato.tools.schema import example_of


@pytest.fixture(scope="module")
async def look(anyio_backend, runtime, mercato_addresses):
    """Look at a tenant's tables as the owner of them, who must name the tenant too."""
    connection = await asyncpg.connect(mercato_addresses.database_url)
    found = await connection.fetch(
        "select format('%s.%s', table_schema, table_name) as name from information_schema.columns"
        " where column_name = 'tenant_id' and table_schema = any($1::text[])"
        " and has_table_privilege('mercato_app', format('%s.%s', table_schema, table_name), 'select') order by 1",
        ["mercato", *runtime.plugins.loaded],
    )

    async def read(tenant_id, columns):
        async with connection.transaction():
            await connection.execute("select set_config('role', 'mercato_app', true)")
            await connection.execute("select set_config('app.tenant_id', $1, true)", str(tenant_id))
            return {row["name"]: await connection.fetchval(columns.format(row["name"])) for row in found}

    yield read
    await connection.close()


@pytest.fixture
async def filled(runtime, tenant):
    """Acme, with what the demonstration of each plugin brings."""
    context = ImportContext(tenant=tenant, progress=lambda what, done, total: None, _database=runtime.database)
    for plugin in runtime.plugins.loaded.values():
        for importer in plugin.importers:
            if importer.demo:
                await importer.run(context, {})
    return tenant


async def _contents(look, tenant_id):
    """A digest of each table's rows of one tenant."""
    rows = await look(tenant_id, "select string_agg(row::text, ',' order by id) from {} as row")
    return {table: hashlib.sha256((text or "").encode()).hexdigest() for table, text in rows.items()}


async def test_no_tool_shows_or_changes_anything_of_another_tenant(runtime, look, filled, other_mcp, other_tenant):
    ids = {table: first for table, first in (await look(filled.id, "select min(id) from {}")).items() if first}
    theirs = await _secrets_of(look, filled.id)
    assert {table.partition(".")[0] for table in ids} >= {"mercato", "commerce"}
    assert len(theirs) > 50
    before = await _contents(look, filled.id)
    for tool in runtime.catalog.tools.values():
        for row_id in sorted(set(ids.values())):
            arguments = example_of(tool.input_schema, {}, set()) | ({"confirm": True} if tool.destructive else {})
            for name, schema in tool.input_schema["properties"].items():
                if name.endswith("_id") or name == "id":
                    arguments[name] = row_id if schema["type"] == "integer" else str(row_id)
            result = await other_mcp.call_tool(tool.name, arguments)
            said = result.model_dump_json()
            assert "internal_fault" not in said, f"{tool.name}({arguments})"
            assert "invalid_arguments" not in said, f"{tool.name}({arguments}): {said}"
            shown = [secret for secret in theirs if secret in said]
            assert shown == [], f"{tool.name}({arguments}) shows {shown[:3]}"
    assert await _contents(look, filled.id) == before


async def _secrets_of(look, tenant_id):
    """Texts that only this tenant's rows have: addresses of people, and the tenant's own."""
    texts = await look(tenant_id, "select string_agg(row::text, ' ') from (select * from {} limit 500) as row")
    return {found for text in texts.values() for found in re.findall(r"[\w.+-]+@[\w-]+\.[\w.-]+\w", text or "")}
