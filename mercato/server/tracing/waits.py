"""Waits: what the database and Redis are asked for a request, as spans of it."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from mercato.server.tracing.tracing import Tracing

_LONGEST_STATEMENT, _LONGEST_OPERATION = 2_000, 32
_BEGAN = "_mercato_began_ns"


def trace_statements(tracing: Tracing, engine: AsyncEngine) -> None:
    """Make a span of every statement; its text holds placeholders, and what they stand for is left out."""

    def begin(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        setattr(context, _BEGAN, time.time_ns())

    def end(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        tracing.leaf(_operation(statement), getattr(context, _BEGAN), _query(statement))

    def fail(failed: ExceptionContext) -> None:
        began_ns = getattr(failed.execution_context, _BEGAN, None)
        if began_ns is not None and failed.statement is not None:
            original = failed.original_exception
            code = getattr(original, "sqlstate", None) or type(original).__qualname__
            tracing.leaf(_operation(failed.statement), began_ns, _query(failed.statement), str(code))

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)
    event.listen(engine.sync_engine, "handle_error", fail)


def reader_of(tracing: Tracing | None) -> type[Any]:
    """Return the class of connections that only read, which no engine stands before."""
    if tracing is None:
        return asyncpg.Connection  # type: ignore[no-any-return]
    leaf = tracing.leaf

    class TracedReader(asyncpg.Connection):  # type: ignore[misc]
        """A connection whose reads are spans."""

        async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
            """Run a statement and return its rows."""
            began_ns, error = time.time_ns(), None
            try:
                return await super().fetch(query, *arguments, **options)
            except BaseException as failure:
                error = str(getattr(failure, "sqlstate", None) or type(failure).__qualname__)
                raise
            finally:
                leaf(_operation(query), began_ns, _query(query), error)

    return TracedReader


def _operation(statement: str) -> str:
    return statement.split(None, 1)[0].upper()[:_LONGEST_OPERATION] if statement.strip() else "SQL"


def _query(statement: str) -> dict[str, str]:
    return {"db.system.name": "postgresql", "db.query.text": statement[:_LONGEST_STATEMENT]}


def trace_commands(tracing: Tracing, redis: Redis) -> None:
    """Make a span of every command that waits for Redis, by its name alone."""
    execute: Any = redis.execute_command

    async def traced(*arguments: Any, **options: Any) -> Any:
        began_ns, error = time.time_ns(), None
        try:
            return await execute(*arguments, **options)
        except BaseException as failure:
            error = type(failure).__qualname__
            raise
        finally:
            name = str(arguments[0])
            tracing.leaf(name, began_ns, {"db.system.name": "redis", "db.operation.name": name}, error)

    redis.execute_command = traced  # type: ignore[method-assign]
