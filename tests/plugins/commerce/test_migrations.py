from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import mercato.plugins.commerce.models  # noqa: F401

TABLES = {"customers", "products", "variants", "stock_movements", "orders", "order_lines"}


def _differences(connection: sa.Connection) -> list[Any]:
    def of_commerce(name: str | None, kind: str, parents: object) -> bool:
        return name == "commerce" if kind == "schema" else name not in {"schema_version", "schema_fingerprint"}

    def is_ours(thing: Any, name: str | None, kind: str, reflected: bool, other: object) -> bool:
        return kind != "table" or thing.schema == "commerce"

    options = {
        "include_schemas": True,
        "include_name": of_commerce,
        "include_object": is_ours,
        "compare_type": True,
        "compare_server_default": False,
    }
    return compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata)


async def test_the_migrated_tables_are_those_of_the_models(runtime, mercato_addresses):
    engine = create_async_engine(make_url(mercato_addresses.database_url).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences)
    await engine.dispose()
    assert differences == []


async def test_every_name_and_default_is_that_of_the_models(runtime, mercato_addresses):
    engine = create_async_engine(make_url(mercato_addresses.database_url).set(drivername="postgresql+asyncpg"))
    constraints = sa.text(
        "select conname from pg_constraint join pg_namespace n on n.oid = connamespace"
        " where nspname = 'commerce' and contype in ('p', 'u', 'f', 'c')"
    )
    async with engine.connect() as connection:
        there = set((await connection.execute(constraints)).scalars()) - {"schema_version_pkc"}
    await engine.dispose()
    tables = [table for table in SQLModel.metadata.tables.values() if table.schema == "commerce"]
    assert {table.name for table in tables} == TABLES
    assert there == {str(constraint.name) for table in tables for constraint in table.constraints}


async def test_stock_movements_are_only_ever_added_to(database, tenant):
    for statement in ("delete from commerce.stock_movements", "update commerce.stock_movements set change = 0"):
        async with database.tenant(tenant.id) as db:
            try:
                await (await db.session.connection()).execute(sa.text(statement))
            except sa.exc.ProgrammingError as error:
                assert "permission denied" in str(error)  # noqa: PT017
                await db.session.rollback()
            else:
                raise AssertionError(f"{statement} was let through")
