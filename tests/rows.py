"""What a tenant has in the tables of every plugin, for tests that show that nobody else sees or changes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson

from mercato.plugins.importers import ImportContext
from mercato.server.runtime import Runtime
from mercato.tenancy.ledger import NewJob, enqueue
from mercato.tenancy.tenants import Tenant
from mercato.tools.schema import example_of
from mercato.tools.tool import Tool


class Rows:
    """Looks at a tenant's tables as the owner of them, who must name the tenant too."""

    def __init__(self, connection: asyncpg.Connection, tables: list[str]) -> None:
        self._connection = connection
        self._tables = tables

    async def read(self, tenant_id: int, columns: str) -> dict[str, Any]:
        """Return the first value of a query for each table."""
        async with self._connection.transaction():
            await self._connection.execute("select set_config('role', 'mercato_app', true)")
            await self._connection.execute("select set_config('app.tenant_id', $1, true)", str(tenant_id))
            return {table: await self._connection.fetchval(columns.format(table)) for table in self._tables}

    async def contents(self, tenant_id: int) -> dict[str, str]:
        """Return a digest of each table's rows."""
        rows = await self.read(tenant_id, "select string_agg(row::text, ',' order by id) from {} as row")
        return {table: hashlib.sha256((text or "").encode()).hexdigest() for table, text in rows.items()}

    async def ids(self, tenant_id: int) -> dict[str, int]:
        """Return the first id of each table that is not empty."""
        found = await self.read(tenant_id, "select min(id) from {}")
        return {table: first for table, first in found.items() if first}

    async def secrets(self, tenant_id: int) -> set[str]:
        """Return texts that only this tenant's rows have: addresses of people, and the tenant's own."""
        texts = await self.read(tenant_id, "select string_agg(row::text, ' ') from (select * from {} limit 500) as row")
        return {found for text in texts.values() for found in re.findall(r"[\w.+-]+@[\w-]+\.[\w.-]+\w", text or "")}


@asynccontextmanager
async def open_rows(database_url: str, plugins: Iterable[str]) -> AsyncIterator[Rows]:
    """Open the tables of these plugins and of the core."""
    connection = await asyncpg.connect(database_url)
    try:
        found = await connection.fetch(
            "select format('%s.%s', table_schema, table_name) as name from information_schema.columns"
            " where column_name = 'tenant_id' and table_schema = any($1::text[])"
            " and has_table_privilege('mercato_app', format('%s.%s', table_schema, table_name), 'select') order by 1",
            ["mercato", *plugins],
        )
        yield Rows(connection, [row["name"] for row in found])
    finally:
        await connection.close()


async def fill(runtime: Runtime, tenant: Tenant) -> None:
    """Give a tenant what the demonstration of each plugin brings, and a run of a job."""
    context = ImportContext(tenant=tenant, progress=lambda what, done, total: None, _database=runtime.database)
    for plugin in runtime.plugins.loaded.values():
        for importer in plugin.importers:
            if importer.demo:
                await importer.run(context, {})
    async with runtime.database.tenant(tenant.id) as db:
        payload = orjson.dumps({"email": f"job@{tenant.slug}.example"}).decode()
        await enqueue(db, NewJob(name="commerce.tell_of_low_stock", version=1, payload=payload, attempts=1))


def arguments_with(tool: Tool, row_id: int) -> dict[str, Any]:
    """Return arguments that a tool takes, with this id wherever one is wanted."""
    arguments = example_of(tool.input_schema, {}, set()) | ({"confirm": True} if tool.destructive else {})
    for name, schema in tool.input_schema["properties"].items():
        if name.endswith("_id") or name == "id":
            arguments[name] = row_id if schema["type"] == "integer" else str(row_id)
    return arguments
