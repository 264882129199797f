"""Reads in one round trip: what they return is what the engine returns, and a connection reads for one tenant only."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import anyio
import asyncpg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, StatementError
from sqlmodel import col, select

from mercato.tenancy.access import TenantSetting
from mercato.tenancy.database import Database
from mercato.tenancy.grants import DisabledTool, Grant
from mercato.tenancy.reads import Elsewhere


@pytest.fixture
async def narrow(mercato_addresses, runtime):
    """A database with one connection to read, which all tenants must share."""
    database = Database(mercato_addresses.database_url, pool_size=1)
    yield database
    await database.close()


@pytest.fixture
async def both(database, tenant, other_tenant):
    """Two tenants, each with one grant and one setting of its own name."""
    for one in (tenant, other_tenant):
        async with database.tenant(one.id) as db:
            await db.session.exec(sa.delete(Grant))
            db.session.add(Grant(category=one.slug))
            db.session.add(TenantSetting(section="commerce", values={"of": one.slug, "deep": [1, None, "é"]}))
    return tenant, other_tenant


async def test_rows_are_tuples_with_names_as_the_engines_are(narrow, both):
    statement = select(Grant.id, Grant.category, Grant.created_at).order_by(Grant.id).limit(5)
    read = await narrow._reads.rows(statement, both[0].id)
    async with narrow.tenant(both[0].id) as db:
        _ = db.session  # from now on `rows` goes the engine's way
        engine = await db.rows(statement)
    assert [tuple(row) for row in read] == [tuple(row) for row in engine]
    assert [row._asdict() for row in read] == [row._asdict() for row in engine]
    assert read[0].category == both[0].slug
    assert read[0].created_at <= datetime.now(UTC)


async def test_json_is_read_as_values(narrow, both):
    [row] = await narrow._reads.rows(select(TenantSetting.values), both[0].id)
    assert row[0] == {"of": both[0].slug, "deep": [1, None, "é"]}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["read", "cancel", "fail"])), max_size=12))
async def test_tenants_that_share_a_connection_never_see_each_others_rows(narrow, both, turns):
    for which, what in turns:
        tenant = both[which]
        if what == "cancel":
            with anyio.move_on_after(0):
                await narrow._reads.rows(select(Grant.category, sa.func.pg_sleep(5)), tenant.id)
        elif what == "fail":
            with pytest.raises(Elsewhere):
                await narrow._reads.rows(select(sa.cast(Grant.category, sa.Integer)), tenant.id)
        [row] = await narrow._reads.rows(select(Grant.category), tenant.id)
        assert row.category == tenant.slug


async def test_many_readers_of_two_tenants_at_once_each_get_their_own(narrow, both):
    async def one(tenant):
        return tenant.slug, [row.category for row in await narrow._reads.rows(select(Grant.category), tenant.id)]

    got = await asyncio.gather(*(one(both[number % 2]) for number in range(40)))
    assert all(found == [slug] for slug, found in got)


async def test_values_are_bound_anew_for_each_statement_of_a_shape(narrow, both):
    async with narrow.tenant(both[0].id) as db:
        db.session.add_all(DisabledTool(tool=name) for name in ("first", "second"))
    for name in ("first", "second", "third"):
        statement = select(DisabledTool.tool).where(DisabledTool.tool == name, col(DisabledTool.id) > 0)
        found = await narrow._reads.rows(statement, both[0].id)
        assert [row.tool for row in found] == ([] if name == "third" else [name])


BY_TOOL = select(DisabledTool.tool, sa.literal(7).label("seven")).where(DisabledTool.tool == sa.bindparam("tool"))


async def test_a_statement_that_is_declared_once_is_given_its_values(narrow, both):
    for one in both:
        async with narrow.tenant(one.id) as db:
            db.session.add_all(DisabledTool(tool=name) for name in ("first", one.slug))
    for one in both:
        for name in ("first", both[0].slug, both[1].slug):
            expected = [(name, 7)] if name in {"first", one.slug} else []
            assert await narrow._reads.rows(BY_TOOL, one.id, {"tool": name}) == expected
            async with narrow.tenant(one.id) as db:
                assert await db.rows(BY_TOOL, {"tool": name}) == expected
                _ = db.session  # from now on `rows` goes the engine's way
                assert await db.rows(BY_TOOL, {"tool": name}) == expected


@pytest.mark.parametrize("values", [None, {}, {"name": "first"}])
async def test_a_value_that_was_not_given_is_asked_for(narrow, both, values):
    async with narrow.tenant(both[0].id, read_only=True) as db:
        with pytest.raises(StatementError, match="A value is required for bind parameter 'tool'"):
            await db.rows(BY_TOOL, values)


async def test_a_list_of_values_goes_the_engines_way(narrow, both):
    statement = select(Grant.category).where(col(Grant.category).in_([both[0].slug, both[1].slug]))
    with pytest.raises(Elsewhere):
        await narrow._reads.rows(statement, both[0].id)
    async with narrow.tenant(both[0].id, read_only=True) as db:
        assert [row.category for row in await db.rows(statement)] == [both[0].slug]


async def test_nothing_can_be_written_through_a_reader(narrow, both):
    tenant_id = both[0].id
    connection = await narrow._reads._pool.take(tenant_id)
    try:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("insert into mercato.grants (category) values ('sneaked in')")
    finally:
        narrow._reads._pool.give_back(connection, tenant_id, whole=True)


async def test_what_fails_is_said_in_the_engines_words(narrow, both):
    async with narrow.tenant(both[0].id, read_only=True) as db:
        with pytest.raises(DBAPIError):
            await db.rows(select(sa.cast(Grant.category, sa.Integer)))
    assert await narrow._reads.rows(select(Grant.category), both[0].id)


async def test_connections_that_the_server_ended_are_replaced(narrow, both):
    await narrow._reads.rows(select(Grant.category), both[0].id)
    [reader] = narrow._reads._pool._idle
    reader.terminate()
    assert await narrow._reads.rows(select(Grant.category), both[0].id)
    assert narrow._reads._pool._open == 1
