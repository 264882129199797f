"""One tenant cannot reach another's rows: by the ORM, by raw SQL, or through what the pool keeps.

`mercato.grants` stands for every table of a tenant, and `mercato.api_keys` for those that point to another.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio
import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlmodel import col, select

from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import WrongTenant
from mercato.tenancy.grants import DisabledTool, Grant
from mercato.tenancy.keys import ApiKey
from mercato.tenancy.memberships import Membership

COUNT = "select count(*) from mercato.grants"


@pytest.fixture
async def narrow(mercato_addresses, runtime):
    """A database whose pool has one connection, so that every transaction gets what the one before left."""
    database = Database(mercato_addresses.database_url, pool_size=1)
    database._app.pool._max_overflow = 0
    yield database
    await database.close()


@pytest.fixture
async def acme(database, tenant):
    """Acme, with the one grant `acme`."""
    return await _with_one_grant(database, tenant.id, "acme")


@pytest.fixture
async def globex(database, other_tenant):
    """Globex, with the one grant `globex`."""
    return await _with_one_grant(database, other_tenant.id, "globex")


async def _with_one_grant(database, tenant_id, category):
    async with database.tenant(tenant_id) as db:
        await db.session.exec(sa.delete(Grant))
        db.session.add(Grant(category=category))
    return tenant_id


async def _grant_of(database, tenant_id):
    async with database.tenant(tenant_id, read_only=True) as db:
        [row] = await db.rows(select(Grant))
    return row


async def sql(db: TenantDatabase, statement: str, **values):
    return await (await db.session.connection()).execute(sa.text(statement), values)


@asynccontextmanager
async def refused(kind=DBAPIError, text=None):
    with pytest.raises(kind, match=text):
        yield


async def test_the_orm_sees_only_the_tenants_rows(database, acme, globex):
    assert (await _grant_of(database, acme)).category == "acme"
    async with database.tenant(acme) as db:
        assert [grant.category for grant in await db.session.exec(select(Grant))] == ["acme"]


async def test_a_row_of_another_cannot_be_had_by_its_id(database, acme, globex):
    theirs = await _grant_of(database, globex)
    async with database.tenant(acme) as db:
        assert await db.session.get(Grant, theirs.id) is None
        assert await db.rows(select(Grant).where(Grant.id == theirs.id)) == []


async def test_raw_sql_sees_only_the_tenants_rows_whatever_it_asks_for(database, acme, globex):
    async with database.tenant(acme) as db:
        assert (await sql(db, COUNT)).scalar() == 1
        assert (await sql(db, f"{COUNT} where tenant_id = :id", id=globex)).scalar() == 0
        assert (await sql(db, "select array_agg(distinct tenant_id) from mercato.audit_entries")).scalar() == [acme]


async def test_tenants_and_people_of_others_are_hidden_too(database, acme, globex):
    async with database.tenant(acme) as db:
        assert list((await sql(db, "select id from mercato.tenants")).scalars()) == [acme]
        assert (await sql(db, "select count(*) from mercato.users")).scalar() == 1


async def test_a_row_cannot_be_inserted_for_another(database, acme, globex):
    async with refused(text="row-level security"), database.tenant(acme) as db:
        await sql(db, "insert into mercato.grants (tenant_id, category) values (:id, 'evil')", id=globex)
    async with refused(WrongTenant), database.tenant(acme) as db:
        db.session.add(Grant(category="evil", tenant_id=globex))


async def test_rows_of_another_are_not_updated(database, acme, globex):
    theirs = await _grant_of(database, globex)
    async with database.tenant(acme) as db:
        updated = await sql(db, "update mercato.grants set category = 'evil' where id = :id", id=theirs.id)
        assert updated.rowcount == 0
        by_the_orm = await db.session.exec(sa.update(Grant).where(col(Grant.id) == theirs.id).values(category="evil"))
        assert by_the_orm.rowcount == 0
    assert (await _grant_of(database, globex)).category == "globex"


async def test_a_row_cannot_be_moved_to_another(database, acme, globex):
    async with refused(text="row-level security"), database.tenant(acme) as db:
        await sql(db, "update mercato.grants set tenant_id = :id", id=globex)
    async with refused(WrongTenant), database.tenant(acme) as db:
        [grant] = await db.session.exec(select(Grant))
        grant.tenant_id = globex


async def test_rows_of_another_are_not_deleted(database, acme, globex):
    async with database.tenant(acme) as db:
        assert (await sql(db, "delete from mercato.grants where tenant_id = :id", id=globex)).rowcount == 0
        assert (await sql(db, "delete from mercato.grants")).rowcount == 1
    assert (await _grant_of(database, globex)).category == "globex"


async def test_a_row_of_another_cannot_be_pointed_to(database, acme, globex):
    async with database.tenant(globex, read_only=True) as db:
        [theirs] = await db.rows(select(Membership))
    async with refused(IntegrityError, "fk_api_keys"), database.tenant(acme) as db:
        db.session.add(ApiKey(membership_id=theirs.id, name="evil", shown="mck_", digest=b"evil", scopes=["*"]))


FORBIDDEN = {
    "truncate mercato.grants": "permission denied",
    "alter table mercato.grants disable row level security": "must be owner",
    "alter table mercato.grants no force row level security": "must be owner",
    "drop policy tenant on mercato.grants": "must be owner",
    "create policy mine on mercato.grants using (true)": "must be owner",
    "alter role mercato_app bypassrls": "permission denied",
    "update mercato.audit_entries set action = 'nothing'": "permission denied",
    "delete from mercato.audit_entries": "permission denied",
    "update mercato.tenants set removed_at = now()": "permission denied",
    "create table mercato.mine (id int)": "permission denied",
    "create table public.mine (id int)": "permission denied",
    "copy mercato.grants to program 'true'": "permission denied",
}


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_what_would_undo_the_isolation_is_forbidden(database, acme, statement):
    async with refused(text=FORBIDDEN[statement]), database.tenant(acme) as db:
        await sql(db, statement)


async def test_row_level_security_cannot_be_switched_off(database, acme):
    async with refused(text="row-level security policy"), database.tenant(acme) as db:
        await sql(db, "set local row_security = off")
        await sql(db, COUNT)


async def test_even_the_owner_of_the_tables_sees_nothing_without_a_tenant(mercato_addresses, database, acme):
    async with database.tenant(acme) as db:  # a table that workers have no policy for
        db.session.add(DisabledTool(tool="seen_by_nobody"))
    count = "select count(*) from mercato.disabled_tools"
    connection = await asyncpg.connect(mercato_addresses.database_url)
    try:
        owned = "select tableowner = current_user from pg_tables where tablename = 'disabled_tools'"
        assert await connection.fetchval(owned)
        assert await connection.fetchval(count) == 0
        async with connection.transaction():
            await connection.execute("select set_config('app.tenant_id', $1, true)", str(acme))
            assert await connection.fetchval(count) == 1
    finally:
        await connection.close()


async def test_without_a_tenant_nothing_is_seen_and_nothing_can_be_written(database, acme):
    async with database._app.connect() as connection:
        assert await connection.scalar(sa.text(COUNT)) == 0
        async with refused(text="null value|row-level security"):
            await connection.execute(sa.text("insert into mercato.grants (category) values ('nobody')"))


async def _left_behind(database):
    """What the next transaction on the pool's one connection finds before a tenant is bound."""
    async with database._app.connect() as connection:
        setting = await connection.scalar(sa.text("select current_setting('app.tenant_id', true)"))
        return setting or None, await connection.scalar(sa.text(COUNT))


async def test_nothing_of_the_tenant_is_left_on_a_connection_after_a_commit(narrow, acme):
    async with narrow.tenant(acme) as db:
        assert (await sql(db, COUNT)).scalar() == 1
    assert await _left_behind(narrow) == (None, 0)


async def test_nothing_of_the_tenant_is_left_on_a_connection_after_reading(narrow, acme):
    async with narrow.tenant(acme, read_only=True) as db:
        assert len(await db.rows(select(Grant))) == 1
    assert await _left_behind(narrow) == (None, 0)


async def test_nothing_of_the_tenant_is_left_on_a_connection_whose_transaction_never_began(narrow, acme):
    async with narrow.tenant(acme) as db:
        await db.session.connection()  # and no statement
    assert await _left_behind(narrow) == (None, 0)


async def test_nothing_of_the_tenant_is_left_on_a_connection_after_an_error(narrow, acme):
    async with refused(sa.exc.DBAPIError, "division by zero"), narrow.tenant(acme) as db:
        await sql(db, COUNT)
        await sql(db, "select 1 / 0")
    assert await _left_behind(narrow) == (None, 0)


async def test_the_tenant_is_bound_again_after_a_rollback_and_a_savepoint(narrow, acme):
    async with narrow.tenant(acme) as db:
        await sql(db, COUNT)
        await db.session.rollback()
        assert (await sql(db, COUNT)).scalar() == 1
        savepoint = await db.session.begin_nested()
        await sql(db, "delete from mercato.grants")
        await savepoint.rollback()
        assert (await sql(db, COUNT)).scalar() == 1


@pytest.mark.parametrize("statement", ["session", "rows"])
async def test_nothing_of_the_tenant_is_left_on_a_connection_after_a_cancelled_request(
    narrow, acme, until_asleep, statement
):
    asleep = sa.select(sa.func.pg_sleep(60))

    async def sleep():
        async with narrow.tenant(acme) as db:
            await (db.session.exec(asleep) if statement == "session" else db.rows(asleep))

    task = asyncio.create_task(sleep())
    await until_asleep()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _left_behind(narrow) == (None, 0)


@pytest.mark.parametrize("statement", ["session", "rows"])
async def test_nothing_of_the_tenant_is_left_on_a_connection_after_a_cancelled_scope(
    narrow, acme, until_asleep, statement
):
    asleep = sa.select(sa.func.pg_sleep(60))

    async def sleep():
        async with narrow.tenant(acme) as db:
            db.session.add(Grant(category="cancelled"))
            await db.session.flush()
            await (db.session.exec(asleep) if statement == "session" else db.rows(asleep))

    async with anyio.create_task_group() as group:
        group.start_soon(sleep)
        await until_asleep()
        group.cancel_scope.cancel()
    assert await _left_behind(narrow) == (None, 0)


@pytest.fixture
async def until_asleep(mercato_addresses):
    """Wait until some transaction sleeps. The login that owns the tables may see what the roles below it do."""
    connection = await asyncpg.connect(mercato_addresses.database_url)

    async def wait():
        with anyio.fail_after(10):
            while not await connection.fetchval("select count(*) from pg_stat_activity where wait_event = 'PgSleep'"):
                await asyncio.sleep(0)

    yield wait
    await connection.close()


async def test_tenants_at_the_same_time_on_shared_connections_never_see_each_other(mercato_addresses, acme, globex):
    database = Database(mercato_addresses.database_url, pool_size=2)
    seen = []

    async def look(tenant_id, category):
        for turn in range(8):
            async with database.tenant(tenant_id) as db:
                if turn % 2:
                    seen.append((category, [grant.category for grant in await db.session.exec(select(Grant))]))
                else:
                    seen.append((category, [row.category for row in await db.rows(select(Grant))]))

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(look, *((acme, "acme") if number % 2 else (globex, "globex")))
    await database.close()
    assert len(seen) == 128
    assert all(found == [own] for own, found in seen)
