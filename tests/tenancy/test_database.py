"""What a tool holds of the database: reading apart from writing, and the guard above row-level security."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import aliased
from sqlmodel import col, select

import mercato
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.database import Database, TenantDatabase, TenantFilter
from mercato.tenancy.grants import DisabledTool, Grant
from mercato.tenancy.memberships import Membership
from mercato.tenancy.tenant_connection import TenantConnection

SYSTEM_SESSIONS = {
    "mercato/tenancy/accounts.py": "an account belongs to no tenant",
    "mercato/tenancy/alerts.py": "alerts are the deployment's, and every tenant's",
    "mercato/tenancy/answers.py": "what became of answers is written for all tenants at once",
    "mercato/tenancy/assertions.py": "a client belongs to no tenant",
    "mercato/tenancy/audit_chain.py": "one sealer works for all tenants",
    "mercato/tenancy/audit_erasure.py": "no tool may erase",
    "mercato/tenancy/audit_pruning.py": "no tool may prune",
    "mercato/tenancy/audit_verification.py": "no tool sees what the chain ends with",
    "mercato/tenancy/client_grants.py": "a token is looked up before its tenant is known",
    "mercato/tenancy/clients.py": "a client belongs to no tenant",
    "mercato/tenancy/codes.py": "a code is looked up before its tenant is known",
    "mercato/tenancy/invitations.py": "a link is looked up before its tenant is known",
    "mercato/tenancy/job_runs.py": "an operator sees and steers the runs of all tenants",
    "mercato/tenancy/keys.py": "a key is looked up before its tenant is known",
    "mercato/tenancy/limits.py": "a tenant cannot set its own limits",
    "mercato/tenancy/memberships.py": "an account belongs to no tenant",
    "mercato/tenancy/onboarding.py": "an account belongs to no tenant",
    "mercato/tenancy/queue_check.py": "the queue is every tenant's",
    "mercato/tenancy/sessions.py": "a session belongs to a person, and to no tenant",
    "mercato/tenancy/signing_keys.py": "the keys are the deployment's",
    "mercato/tenancy/tenants.py": "a tenant belongs to no tenant",
    "mercato/tenancy/usage.py": "one batch holds the calls of many tenants",
    "mercato/tenancy/usage_months.py": "a month holds the calls of all tenants",
}


async def test_rows_are_tuples_with_names(database, tenant):
    async with database.tenant(tenant.id) as db:
        row = (await db.rows(select(Grant).order_by(Grant.id)))[0]
        assert row.tenant_id == tenant.id
        assert (await db.rows(sa.select(sa.literal(7).label("seven"))))[0].seven == 7


async def test_rows_see_what_the_same_tool_has_written(database, tenant):
    async with database.tenant(tenant.id) as db:
        db.session.add(DisabledTool(tool="mine"))
        assert [row.tool for row in await db.rows(select(DisabledTool))] == ["mine"]


async def test_a_write_is_seen_by_others_only_after_the_block_has_ended(database, tenant):
    async with database.tenant(tenant.id) as db:
        db.session.add(DisabledTool(tool="mine"))
        await db.session.flush()
        async with database.tenant(tenant.id) as other:
            assert await other.rows(select(DisabledTool)) == []
    async with database.tenant(tenant.id) as other:
        assert len(await other.rows(select(DisabledTool))) == 1


async def test_a_block_that_raises_keeps_nothing(database, tenant):
    async def write_and_raise():
        async with database.tenant(tenant.id) as db:
            db.session.add(DisabledTool(tool="mine"))
            await db.session.flush()
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await write_and_raise()
    async with database.tenant(tenant.id) as db:
        assert await db.rows(select(DisabledTool)) == []


async def test_the_session_is_not_committed_by_the_tool(database, tenant):
    async with database.tenant(tenant.id) as db:
        db.session.add(DisabledTool(tool="mine"))
        with pytest.raises(RuntimeError, match="committed for you"):
            await db.session.commit()


async def test_a_read_only_tool_has_no_session(database, tenant):
    async with database.tenant(tenant.id, read_only=True) as db:
        with pytest.raises(RuntimeError, match="declare it `read_only=False`"):
            _ = db.session


WRITES = {
    "an insert within the select": sa.select(
        sa.insert(DisabledTool).values(tool="mine").returning(DisabledTool.id).cte().c.id
    ),
    "a delete within the select": sa.select(sa.delete(Grant).returning(Grant.id).cte().c.id),
    "a function that writes": sa.select(sa.func.nextval("mercato.grants_id_seq")),
    "a lock": select(Grant).with_for_update(),
}


@pytest.mark.parametrize("statement", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("read_only", [True, False])
async def test_rows_cannot_write_even_by_raw_sql(database, tenant, statement, read_only):
    with pytest.raises(sa.exc.DBAPIError, match="read-only transaction"):
        async with database.tenant(tenant.id, read_only=read_only) as db:
            await db.rows(statement)
    async with database.tenant(tenant.id) as db:
        assert await db.rows(select(DisabledTool)) == []


async def test_a_connection_that_read_can_write_afterwards(mercato_addresses, runtime, tenant):
    database = type(runtime.database)(mercato_addresses.database_url, pool_size=1)
    for _ in range(3):
        async with database.tenant(tenant.id) as db:
            before = len(await db.rows(select(DisabledTool)))
            db.session.add(DisabledTool(tool=f"tool{before}"))
    await database.close()
    async with runtime.database.tenant(tenant.id) as db:
        assert len(await db.rows(select(DisabledTool))) == 3


async def test_the_tenant_of_a_write_is_named_in_the_round_trip_that_begins_it(mercato_addresses, tenant):
    database, sent, simple = Database(mercato_addresses.database_url, pool_size=1), [], []
    event.listen(database._app.sync_engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
    async with database._app.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        driver.add_query_logger(lambda record: simple.append(record.query))  # hears of those that are not prepared
    async with database.tenant(tenant.id) as db:
        assert await db.session.scalar(sa.text("select current_setting('app.tenant_id')")) == str(tenant.id)
        async with db.session.begin_nested():
            await db.session.exec(sa.text("select 1"))
    await database.close()
    assert simple == [f"BEGIN;set local app.tenant_id = '{tenant.id}'", "COMMIT;"]
    assert sent == [
        "select current_setting('app.tenant_id')",
        "SAVEPOINT sa_savepoint_1",
        "select 1",
        "RELEASE SAVEPOINT sa_savepoint_1",
    ]


async def test_touching_the_database_is_noticed_for_the_sake_of_ask(database, tenant):
    async with database.tenant(tenant.id) as db:
        assert not db.touched
        await db.rows(sa.select(sa.literal(1)))
        assert db.touched


@pytest.fixture
async def unprotected(mercato_addresses, runtime):
    """An engine for which row-level security says nothing, so that only the guard is left: tables of its own."""
    url = sa.make_url(mercato_addresses.database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(
        url,
        execution_options={"schema_translate_map": {"mercato": "unprotected"}},
        connect_args={"connection_class": TenantConnection},
    )
    async with engine.begin() as connection:
        await connection.execute(sa.text("drop schema if exists unprotected cascade"))
        await connection.execute(sa.text("create schema unprotected"))
        for table in ("grants", "disabled_tools"):
            await connection.execute(sa.text(f"create table unprotected.{table} (like mercato.{table} including all)"))
        for tenant_id in (1, 2):
            values = {"tenant": tenant_id, "category": f"of-{tenant_id}"}
            insert = "insert into unprotected.grants (tenant_id, category) values (:tenant, :category)"
            await connection.execute(sa.text(insert), values)
    yield engine
    async with engine.begin() as connection:
        await connection.execute(sa.text("drop schema unprotected cascade"))
    await engine.dispose()


@pytest.fixture
async def guarded(unprotected):
    db = TenantDatabase(unprotected, unprotected, None, TenantFilter(), 1, read_only=False)
    yield db
    await db.close()


async def test_the_guard_alone_hides_rows_from_the_session(guarded):
    other = aliased(Grant)
    assert [grant.category for grant in await guarded.session.exec(select(Grant))] == ["of-1"]
    assert [grant.category for grant in await guarded.session.exec(select(other))] == ["of-1"]
    assert await guarded.session.get(Grant, 2) is None


async def test_the_guard_alone_hides_rows_from_rows(guarded):
    assert [row.category for row in await guarded.rows(select(Grant))] == ["of-1"]
    assert [row.category for row in await guarded.rows(select(col(Grant.category)))] == ["of-1"]


async def test_the_guard_alone_stops_updates_and_deletes(guarded, unprotected):
    await guarded.session.exec(sa.update(Grant).values(category="mine"))
    await guarded.session.exec(sa.delete(DisabledTool))
    await guarded.commit()
    async with unprotected.connect() as connection:
        names = (await connection.execute(sa.text("select category from unprotected.grants order by 1"))).scalars()
        assert list(names) == ["mine", "of-2"]


def _where(statement):
    compiled = str(TenantFilter()(statement, 7).compile(dialect=sa.dialects.postgresql.dialect()))
    return " ".join(compiled.split()).partition(" WHERE ")[2]


def test_the_guard_of_rows_is_on_the_leftmost_table_so_that_outer_joins_keep_their_meaning():
    joined = select(Grant).outerjoin(DisabledTool, col(DisabledTool.tool) == Grant.category)
    assert _where(joined).startswith("mercato.grants.tenant_id = ")
    assert "disabled_tools.tenant_id" not in _where(joined)


def test_the_guard_of_rows_leaves_alone_what_has_no_tenant():
    assert _where(sa.select(sa.literal(1))) == ""
    assert _where(sa.select(sa.text("1")).select_from(sa.text("pg_roles"))) == ""
    assert _where(select(AuditEntry)) != ""
    assert _where(select(Membership)) != ""


def test_only_the_modules_that_must_open_a_session_of_no_tenant():
    root = Path(mercato.__file__).parent
    opened = {
        path.relative_to(root.parent).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"system", "_system"}
        if ast.unparse(node) != "platform.system"
    }
    assert opened - {"mercato/tenancy/database.py"} == set(SYSTEM_SESSIONS)


def test_only_the_ledger_has_the_pool_of_no_tenant():
    root = Path(mercato.__file__).parent
    naming = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and ast.unparse(node).endswith("database.pool"))
        or (isinstance(node, ast.Name) and node.id == "SystemPool")
    }
    of_the_server = {
        "contexts.py",
        "runtime.py",
        "stored_gauges.py",
        *(f"cli/{name}.py" for name in ("circuits", "schedules", "watching")),
        *(
            f"jobs/{name}.py"
            for name in ("core/purging", "relay", "running", "samples", "service", "ticker", "working")
        ),
        "mcp/tasks/run_tool.py",
    }
    of_tenancy = {
        "circuits",
        "database",
        "exports",
        "job_backlog",
        "job_purging",
        "ledger_choosing",
        "ledger_work",
        "queue_check",
        "tasks",
        "ticks",
    }
    assert naming == {f"server/{name}" for name in of_the_server} | {f"tenancy/{name}.py" for name in of_tenancy}
