"""Reads in one round trip: connections that each stay with a tenant, and statements that are compiled once.

A transaction of its own for each read costs four round trips (begin, tenant, select, commit), and SQLAlchemy's engine
twice as much again. These connections do nothing but read, one statement at a time, and only here: before each
statement the connection is known to be of its tenant, or is made so. What cannot go this way goes the engine's.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.result import result_tuple

_SET_TENANT = "select set_config('app.tenant_id', $1, false)"
_MOST_PLANS = 1_000
_STATEMENTS = 500
_WAIT_S = 8
_NOTHING: Mapping[str, Any] = MappingProxyType({})

Statement = sa.Select[*tuple[Any, ...]]
"""A SELECT of any columns."""
Filter = Callable[[Statement, int], Statement]


class Elsewhere(Exception):
    """This statement cannot be read here, or could not be just now: read it the engine's way."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A statement of one shape, compiled.

    Each argument is one of the statement's own values (by its place), one that is given beside it (by its name), or
    the tenant (None).
    """

    sql: str
    arguments_of: tuple[tuple[int | str | None, Callable[[Any], Any] | None], ...]
    names: Set[str]
    result: tuple[Callable[[Any], Any] | None, ...] | None
    row: Callable[[Sequence[Any]], Any]

    def arguments(self, bound: Sequence[sa.BindParameter[Any]], given: Mapping[str, Any], tenant_id: int) -> list[Any]:
        values = []
        for source, process in self.arguments_of:
            if source is None:
                value: Any = tenant_id
            else:
                value = given[source] if isinstance(source, str) else bound[source].effective_value
            values.append(value if process is None or value is None else process(value))
        return values

    def rows(self, records: Sequence[Any]) -> list[Any]:
        if self.result is None:
            return [self.row(tuple(record)) for record in records]
        return [
            self.row(
                tuple(
                    value if process is None else process(value)
                    for value, process in zip(record, self.result, strict=True)
                )
            )
            for record in records
        ]


_Planned = tuple[_Plan | None, Sequence[Any]]
"""The plan of a statement, where it has one, and the parameters that have values of their own."""


class Reads:
    """Reads the rows of tenants. Opens its connections when they are needed, up to `size`."""

    def __init__(self, connect: Mapping[str, Any], dialect: Dialect, filter_rows: Filter, size: int) -> None:
        self._dialect = dialect
        self._filter = filter_rows
        self._plans: OrderedDict[Any, _Plan | None] = OrderedDict()
        self._declared: OrderedDict[Statement, _Planned] = OrderedDict()
        self._pool = _Pool(connect, size)

    async def rows(self, statement: Statement, tenant_id: int, given: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Return the rows of a SELECT, with `given` for its parameters that have no value of their own.

        A statement that is given values is taken for one that is declared once: its plan is found by its identity.
        Raises `Elsewhere` for what it cannot read, and when anything went wrong.
        """
        if given is None:
            plan, bound = self._by_shape(statement, tenant_id)
            given = _NOTHING
        else:
            plan, bound = self._declared.get(statement) or self._declare(statement, tenant_id)
        if plan is None or given.keys() != plan.names:
            raise Elsewhere
        arguments = plan.arguments(bound, given, tenant_id)
        connection = self._pool.find(tenant_id) or await self._pool.take(tenant_id)
        whole = False
        try:
            records = await connection.fetch(plan.sql, *arguments)
            whole = True
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Elsewhere from error  # where it fails again, the error is in the form that everybody knows
        finally:
            self._pool.give_back(connection, tenant_id, whole=whole)
        return plan.rows(records)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    def _by_shape(self, statement: Statement, tenant_id: int) -> _Planned:
        shape = statement._generate_cache_key()
        if shape is None:
            return None, ()
        if shape.key in self._plans:
            plan = self._plans[shape.key]
        else:
            plan = _compiled(self._filter(statement, tenant_id), shape.bindparams, self._dialect)
            _keep(self._plans, shape.key, plan)
        return plan, shape.bindparams

    def _declare(self, statement: Statement, tenant_id: int) -> _Planned:
        shape = statement._generate_cache_key()
        bound = () if shape is None else tuple(shape.bindparams)
        planned = _compiled(self._filter(statement, tenant_id), bound, self._dialect), bound
        _keep(self._declared, statement, planned)
        return planned


def _keep(plans: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    plans[key] = value
    if len(plans) > _MOST_PLANS:
        plans.popitem(last=False)


def _compiled(filtered: Statement, bound: Sequence[Any], dialect: Dialect) -> _Plan | None:
    """Return the plan of a statement; None where its text depends on its values, as that of a list does."""
    compiled: Any = filtered._compile_w_cache(
        dialect, compiled_cache=None, column_keys=[], for_executemany=False, schema_translate_map=None
    )[0]
    if compiled.post_compile_params or compiled.literal_execute_params or not compiled._result_columns:
        return None
    places = {id(parameter): place for place, parameter in enumerate(bound)}
    names = compiled.positiontup or ()
    own = [compiled.binds[name] for name in names]
    added = [parameter for parameter in own if id(parameter) not in places]
    if len({id(parameter) for parameter in added}) > 1:
        return None
    columns = compiled._result_columns
    processors = [column.type._cached_result_processor(dialect, None) for column in columns]
    return _Plan(
        sql=str(compiled),
        arguments_of=tuple(
            (parameter.key if parameter.required else places.get(id(parameter)), compiled._bind_processors.get(name))
            for parameter, name in zip(own, names, strict=True)
        ),
        names=frozenset(parameter.key for parameter in own if parameter.required),
        result=tuple(processors) if any(processors) else None,
        row=result_tuple([column.keyname for column in columns]),
    )


class _Pool:
    """Connections, each with the tenant that it was last made to read for."""

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        self._connect = connect
        self._size = size
        self._open = 0
        self._idle: OrderedDict[Any, int] = OrderedDict()
        self._of_tenant: dict[int, list[Any]] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    async def take(self, tenant_id: int) -> Any:
        """Return a connection that reads for this tenant, and for nobody else until it is given back."""
        while True:
            connection = self.find(tenant_id)
            if connection is not None:
                return connection
            if self._open < self._size:
                return await self._made(tenant_id)
            if self._idle:
                return await self._turned(tenant_id)
            await self._wait()

    def give_back(self, connection: Any, tenant_id: int, *, whole: bool) -> None:
        """Take a connection back; one whose state is not certain is ended."""
        if whole and not self._closed and not connection.is_closed():
            self._idle[connection] = tenant_id
            self._of_tenant.setdefault(tenant_id, []).append(connection)
        else:
            self._open -= 1
            connection.terminate()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    async def close(self) -> None:
        """Close what is idle; what is not is closed when it comes back."""
        self._closed = True
        for connection in self._idle:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.close(timeout=2)
        self._idle.clear()
        self._of_tenant.clear()

    def find(self, tenant_id: int) -> Any:
        """Return an idle connection that reads for this tenant, as `take` does, or None."""
        kept = self._of_tenant.get(tenant_id)
        while kept:
            connection = kept.pop()
            if not kept:
                del self._of_tenant[tenant_id]
            del self._idle[connection]
            if not connection.is_closed():
                return connection
            self._open -= 1
            kept = self._of_tenant.get(tenant_id)
        return None

    async def _made(self, tenant_id: int) -> Any:
        self._open += 1
        connection = None
        try:
            connection = await asyncpg.connect(**self._connect, statement_cache_size=_STATEMENTS)
            for name in ("json", "jsonb"):  # arguments come as texts already: SQLAlchemy's types have made them
                await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=orjson.loads)
            await connection.fetchval(_SET_TENANT, str(tenant_id))
        except BaseException as error:
            self._open -= 1
            if connection is not None:
                connection.terminate()
            if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | OSError | TimeoutError):
                raise Elsewhere from error
            raise
        return connection

    async def _turned(self, tenant_id: int) -> Any:
        """Return the connection that has lain idle longest, made to read for another tenant."""
        connection, before = self._idle.popitem(last=False)
        others = self._of_tenant[before]
        others.remove(connection)
        if not others:
            del self._of_tenant[before]
        turned = False
        try:
            await connection.fetchval(_SET_TENANT, str(tenant_id))
            turned = True
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Elsewhere from error
        finally:
            if not turned:
                self.give_back(connection, before, whole=False)
        return connection

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(_WAIT_S):
                await waiter
        except TimeoutError:
            raise exc.TimeoutError("no connection to read became free") from None
