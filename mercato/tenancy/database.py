"""The edge to PostgreSQL: two run-time roles, one tenant to a transaction.

`mercato_app` sees the rows of the tenant that the transaction names, and none where it names none. `mercato_system`
has policies of its own on the few tables that must be read before the tenant is known. Isolation is row-level
security in the database; the guard on ORM sessions is a second, independent layer above it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import asyncpg
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import ORMExecuteState, SessionTransaction, UOWTransaction, with_loader_criteria
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.tenancy.errors import WrongTenant
from mercato.tenancy.reads import Elsewhere, Reads
from mercato.tenancy.reads import Statement as Statement
from mercato.tenancy.rows import TenantOwned
from mercato.tenancy.system_pool import SystemPool
from mercato.tenancy.tenant_connection import TenantConnection, begin_for, forget_tenant

APP_ROLE = "mercato_app"
SYSTEM_ROLE = "mercato_system"
OLDEST_POSTGRES = 17

Opening = Callable[[sa.Connection], None]
"""What begins a tenant's transaction. What it raises ends the transaction before anything was done in it."""

_MOST_SHAPES = 1_000
_LEDGER_POOL = 4
_LEDGER_PLANS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
"""Planning costs more than running. A plan that was made while the ledger was small must do when it is large."""
_CONNECT_TIMEOUT_S, _POOL_TIMEOUT_S = 5, 8
"""Clients give up after ten."""
_OUTAGES = ("08", "53", "57P", "25006", "55P03", "57014")
"""What PostgreSQL says of itself: no connection, no room, shutting down or starting up, only a standby; and what it
says where something else held it up for too long."""
_SYSTEM_LIMITS = {
    "lock_timeout": "4s",
    "statement_timeout": "8s",
    "idle_in_transaction_session_timeout": "60s",
}
"""Of sessions that everybody's requests wait for: one row that is locked must not hold up the rest."""
_TENANT_COLUMN = sa.column("tenant_id", sa.BigInteger())


class Database:
    """The connection pools of one process, one to a role. `reader` is a class of asyncpg's for what only reads.

    `pool` is the system's too, for the statements of the ledger, which are made all the time.
    """

    def __init__(self, url: str, *, pool_size: int = 10, reader: type[Any] = asyncpg.Connection) -> None:
        self._app = _engine(url, APP_ROLE, pool_size, overflow=pool_size, limits={}, connects=TenantConnection)
        event.listen(self._app.sync_engine, "checkout", forget_tenant)
        self._read = self._app.execution_options(postgresql_readonly=True)
        self._single = self._app.execution_options(isolation_level="AUTOCOMMIT")
        self._filter = TenantFilter()
        self._reads = Reads(_reading(self._app, url, reader), self._app.dialect, self._filter, pool_size)
        self._system = _engine(url, SYSTEM_ROLE, max(5, pool_size), overflow=0, limits=_SYSTEM_LIMITS)
        settings = {**_SYSTEM_LIMITS, **_LEDGER_PLANS}
        self.pool = SystemPool(_connecting(self._system, url, SYSTEM_ROLE, settings), _LEDGER_POOL)

    @asynccontextmanager
    async def tenant(self, tenant_id: int, *, read_only: bool = False) -> AsyncIterator[TenantDatabase]:
        """Open the tenant's view; what was written is committed when the block ends well, and undone when it raises."""
        db = self.open_tenant(tenant_id, read_only=read_only)
        try:
            yield db
            await db.commit()
        finally:
            await db.close()

    def open_tenant(self, tenant_id: int, *, read_only: bool) -> TenantDatabase:
        """Return the tenant's view, for who commits and closes it."""
        return TenantDatabase(self._app, self._read, self._reads, self._filter, tenant_id, read_only=read_only)

    async def single(self, statement: sa.TextClause, values: Mapping[str, Any]) -> Sequence[Any]:
        """Run one statement that names its tenant itself, in one round trip; return its rows."""
        async with self._single.connect() as connection:
            return (await connection.execute(statement, values)).all()

    @asynccontextmanager
    async def system(self) -> AsyncIterator[AsyncSession]:
        """Open a session of no tenant, for what must be looked up before the tenant is known.

        Which modules may call this is pinned by a test.
        """
        async with AsyncSession(self._system, expire_on_commit=False) as session, session.begin():
            yield session

    @property
    def engines(self) -> Mapping[str, AsyncEngine]:
        """The engines by their role, for who watches them: statements go through `tenant` and `system`."""
        return {APP_ROLE: self._app, SYSTEM_ROLE: self._system}

    async def ping(self) -> float:
        """Return the major version of the server as a number, by one round trip.

        It goes by the system's connections: tools that hold all of theirs do not make the database look away.
        """
        async with self._system.connect() as connection:
            version = await connection.scalar(sa.text("select current_setting('server_version_num')::int / 10000.0"))
        return float(version or 0)

    async def close(self) -> None:
        """Close every connection."""
        await self._reads.close()
        await self.pool.close()
        await self._app.dispose()
        await self._system.dispose()


def is_outage(error: BaseException) -> bool:
    """Whether an error means that the database does not answer, and not that something is wrong with a statement."""
    if isinstance(error, exc.DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or isinstance(error.orig, OSError) or state.startswith(_OUTAGES)
    outages = (OSError, exc.TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError)
    return isinstance(error, outages) and not isinstance(error, TimeoutError)


class TenantDatabase:
    """What a tool sees of the database: the rows of its tenant.

    `rows` reads; `session` writes, in one transaction that begins at its first use and is committed after the tool
    has returned and its answer is known to be valid.
    """

    def __init__(
        self,
        app: AsyncEngine,
        read: AsyncEngine,
        reads: Reads | None,
        filter_rows: TenantFilter,
        tenant_id: int,
        *,
        read_only: bool,
    ) -> None:
        self._engine = app
        self._reads = reads
        self._filter = filter_rows
        self._read = read
        self._tenant_id = tenant_id
        self._read_only = read_only
        self._session: _TenantAsyncSession | None = None
        self._opening: Opening | None = None
        self.touched = False
        self.is_committed = False

    async def rows(self, statement: Statement, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Run one SELECT and return its rows.

        `values` are for the parameters (`bindparam`) of a statement that is declared once, beside the function that
        reads with it; building it anew for each call costs about as much as all the rest of a call.

        It reads in a read-only transaction of its own, or, once `session` has been used, in that one, so that a tool
        sees what it has written. Rows are tuples with names: `select(Order)` gives the columns, not entities.
        """
        self.touched = True
        if self._session is None and self._reads is not None:
            try:
                return await self._reads.rows(statement, self._tenant_id, values)
            except Elsewhere:
                pass
        guarded = self._filter(statement, self._tenant_id)
        if self._session is not None:
            await self._session.flush()
            return (await (await self._session.connection()).execute(guarded, values)).all()
        async with self._read.connect() as connection, connection.begin():
            begin_for(await connection.get_raw_connection(), self._tenant_id)
            return (await connection.execute(guarded, values)).all()

    @property
    def session(self) -> AsyncSession:
        """The session that writes. Raises `RuntimeError` in a tool that was declared `read_only`."""
        if self._read_only:
            raise RuntimeError(
                "a read-only tool asked for `db.session`: use `db.rows`, or declare it `read_only=False`"
            )
        self.touched = True
        if self._session is None:
            info = {"tenant_id": self._tenant_id, "opening": self._opening}
            self._session = _TenantAsyncSession(self._engine, info=info, expire_on_commit=False)
        return self._session

    @property
    def tenant_id(self) -> int:
        """Whose rows these are."""
        return self._tenant_id

    @property
    def is_writing(self) -> bool:
        """Whether there is a transaction of `session`, to be committed or undone."""
        return self._session is not None

    def open_with(self, opening: Opening) -> None:
        """Begin the transaction of `session` with statements that may refuse it.

        Comes before the first use of `session`.
        """
        self._opening = opening

    async def commit(self) -> None:
        """Commit what `session` wrote, if it was used. Once begun it is not cancelled: its outcome must be known."""
        if self._session is not None:
            await _to_the_end(self._commit(self._session))

    async def _commit(self, session: _TenantAsyncSession) -> None:
        await session.commit_all()
        self.is_committed = True

    async def close(self) -> None:
        """Give the connection back; what was not committed is undone."""
        if self._session is not None:
            await self._session.close()


async def _to_the_end(work: Awaitable[None]) -> None:
    """Await it whoever cancels us, by either library; the cancellation goes on afterwards."""
    task, cancelled = asyncio.ensure_future(work), None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                if task.cancelled():
                    raise
                cancelled = error
            except BaseException:  # noqa: BLE001  # it is the task's, and is raised below
                break
    task.result()
    if cancelled is not None:
        raise cancelled


def _engine(
    url: str,
    role: str,
    pool_size: int,
    *,
    overflow: int,
    limits: Mapping[str, str],
    connects: type[Any] = asyncpg.Connection,
) -> AsyncEngine:
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        max_overflow=overflow,
        pool_timeout=_POOL_TIMEOUT_S,
        hide_parameters=True,  # an error's text goes to the log, and parameters hold what people wrote
        connect_args={
            "timeout": _CONNECT_TIMEOUT_S,
            "connection_class": connects,
            "server_settings": {"role": role, "application_name": "mercato", "jit": "off", **limits},
        },
    )
    event.listen(engine.sync_engine, "do_connect", _connect)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _reading(engine: AsyncEngine, url: str, reader: type[Any]) -> Mapping[str, Any]:
    """Return how connections are made that only read, and for tools: as the engine makes them, but read-only."""
    only = {"default_transaction_read_only": "on"}
    return {**_connecting(engine, url, APP_ROLE, only), "connection_class": reader}


def _connecting(engine: AsyncEngine, url: str, role: str, more: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the arguments of asyncpg's `connect`."""
    _, options = engine.dialect.create_connect_args(make_url(url).set(drivername="postgresql+asyncpg"))
    return {
        **options,
        "timeout": _CONNECT_TIMEOUT_S,
        "server_settings": {"role": role, "application_name": "mercato", "jit": "off", **more},
    }


def _connect(dialect: Any, record: Any, arguments: Any, parameters: Any) -> Any:
    """Say that nobody answered, and not that something took too long: a tool's own time-out has the same type."""
    try:
        return dialect.connect(*arguments, **parameters)
    except TimeoutError:
        raise ConnectionError(f"PostgreSQL did not answer within {_CONNECT_TIMEOUT_S} s") from None


def _refuse_closed(connection: Any, record: Any, proxy: Any) -> None:
    """Let the pool replace a connection that the server has closed; asyncpg knows without a round trip."""
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError


class TenantFilter:
    """Adds the tenant to the first table of a statement: the leftmost one, so that outer joins keep their meaning.

    SQLAlchemy compiles the whole statement to tell which that is, so the answer is kept by the statement's shape. Only
    tables are: an alias or a subquery is another object each time, and would be joined in beside its twin.
    """

    def __init__(self) -> None:
        self._leftmost: dict[object, sa.Table] = {}

    def __call__(self, statement: Statement, tenant_id: int) -> Statement:
        """Return the statement with the tenant in it."""
        source = self._source(statement)
        if "tenant_id" in getattr(source, "c", ()):  # a text has none
            return statement.where(source.c.tenant_id == tenant_id)
        return statement

    def _source(self, statement: Statement) -> Any:
        shape = statement._generate_cache_key()
        if shape is not None and (known := self._leftmost.get(shape.key)) is not None:
            return known
        source = _leftmost(statement)
        if shape is not None and isinstance(source, sa.Table):
            if len(self._leftmost) >= _MOST_SHAPES:
                self._leftmost.clear()
            self._leftmost[shape.key] = source
        return source


def _leftmost(statement: Statement) -> Any:
    froms = statement.get_final_froms()
    source: Any = froms[0] if froms else None
    while isinstance(source, sa.Join):
        source = source.left
    return source


class _TenantSession(Session):
    """The synchronous core of a tenant's session; the events below listen on this class only."""


class _TenantAsyncSession(AsyncSession):
    sync_session_class = _TenantSession

    async def commit(self) -> None:
        """Refuse: a write and its audit entry are one transaction, which ends when the tool has returned."""
        raise RuntimeError("`db.session` is committed for you, once the tool has returned; use `flush` to see ids")

    async def commit_all(self) -> None:
        """End the transaction: for the one that opened it."""
        await super().commit()


@event.listens_for(_TenantSession, "after_begin")
def _bind_session(session: Session, transaction: SessionTransaction, connection: sa.Connection) -> None:
    if transaction.nested:
        return
    begin_for(connection.connection, session.info["tenant_id"])
    if (opening := session.info.get("opening")) is not None:
        opening(connection)


@event.listens_for(_TenantSession, "do_orm_execute")
def _filter_by_tenant(state: ORMExecuteState) -> None:
    if state.is_column_load or state.is_relationship_load:
        return
    tenant_id = state.session.info["tenant_id"]
    criteria = with_loader_criteria(
        TenantOwned,
        # The mixin itself is probed too, and as a pydantic model it has no such attribute.
        lambda cls: getattr(cls, "tenant_id", _TENANT_COLUMN) == tenant_id,
        include_aliases=True,
        propagate_to_loaders=True,
    )
    state.statement = state.statement.options(criteria)


@event.listens_for(_TenantSession, "before_flush")
def _stamp_tenant(session: Session, context: UOWTransaction, instances: object) -> None:
    tenant_id = session.info["tenant_id"]
    for row in session.new:
        if isinstance(row, TenantOwned):
            if getattr(row, "tenant_id", None) is None:
                row.tenant_id = tenant_id
            _refuse_other_tenant(row, tenant_id)
    for row in session.dirty:
        if isinstance(row, TenantOwned):
            _refuse_other_tenant(row, tenant_id)


def _refuse_other_tenant(row: TenantOwned, tenant_id: int) -> None:
    if row.tenant_id != tenant_id:
        raise WrongTenant(f"{type(row).__name__} belongs to another tenant")
