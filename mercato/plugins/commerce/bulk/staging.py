"""Staging: named tuples, copied into a temporary table of the transaction that has their fields as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, NamedTuple, NewType, get_args, get_type_hints

import sqlalchemy as sa
from sqlmodel.ext.asyncio.session import AsyncSession

Json = NewType("Json", str)
"""A JSON text, as a column of type jsonb takes it."""

_TYPES: Mapping[Any, str] = {
    int: "bigint",
    str: "text",
    bool: "boolean",
    datetime: "timestamptz",
    list[str]: "text[]",
    Json: "jsonb",
}
# Importers of one tenant take turns, so that no two of them make the same customer.
_TAKE_TURNS = (
    "select pg_advisory_xact_lock(hashtextextended('commerce.bulk', current_setting('app.tenant_id')::bigint))"
)


class Rejection(NamedTuple):
    """A row that could not be put among those there are, by the line it came from."""

    line: int
    reason: str


async def stage(session: AsyncSession, table: str, kind: Any, rows: Sequence[Any], keys: str) -> None:
    """Copy rows, named tuples of `kind`, into a new temporary table, gone with the transaction.

    `keys` are the columns by which it is joined, for the planner to know.
    """
    connection = await session.connection()
    await connection.exec_driver_sql(_TAKE_TURNS)
    await connection.exec_driver_sql(f"create temporary table {table} ({_columns(kind)}) on commit drop")
    raw: Any = (await connection.get_raw_connection()).driver_connection
    if not raw.is_in_transaction():
        raise RuntimeError("rows can be staged in a transaction only")
    await raw.copy_records_to_table(table, records=rows, columns=kind._fields)
    # Without it the planner knows nothing of the table, and reads all of the others instead of looking up.
    await connection.exec_driver_sql(f"analyze {table} ({keys})")


async def run(session: AsyncSession, statement: str, **values: Any) -> int:
    """Run a statement; return how many rows it touched."""
    result = await (await session.connection()).execute(sa.text(statement), values)
    return max(result.rowcount, 0)


async def fetch(session: AsyncSession, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Run a statement; return its rows."""
    result = await (await session.connection()).execute(sa.text(statement), values)
    return [tuple(row) for row in result]


@cache
def _columns(kind: Any) -> str:
    return ", ".join(f"{name} {_TYPES[_plain(hint)]}" for name, hint in get_type_hints(kind).items())


def _plain(hint: Any) -> Any:
    """Return the type that is not None."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    return parts[0] if NoneType in get_args(hint) else hint


async def look_up(session: AsyncSession) -> None:
    """For the rest of the transaction, let joins look up row by row: right for a few thousand rows of a large tenant.

    The planner cannot know that the tenant is a large one, and would rather read all of it for each batch.
    """
    connection = await session.connection()
    await connection.exec_driver_sql(
        "select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
    )
