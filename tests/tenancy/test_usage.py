from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, date, datetime

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select

from mercato.tenancy.database import Database
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.usage import UsageRecord, UsageWriter, Used, months_of
from mercato.tenancy.usage_summary import Days, read_usage

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
DAY = 86_400
SPAN = Days(date(2026, 1, 1), date(2026, 2, 28))


def used(tenant_id, at=NOON, **fields):
    """A call of `get_order` that went well."""
    values = {
        "user_id": None,
        "kind": "key",
        "credential_id": 12,
        "client_id": "key:12",
        "session_id": "session-1",
        "request_id": "request-1",
        "tool": "get_order",
        "category": "commerce",
        "outcome": "ok",
        "duration_us": 10_000,
        "request_bytes": 78,
        "answer_bytes": 391,
    }
    return Used(at=at, tenant_id=tenant_id, **(values | fields))


@pytest.fixture
async def write(database):
    """Write records."""
    writer = UsageWriter(database)

    async def write_them(*records):
        await writer.write(secrets.randbelow(2**50), records)

    return write_them


@pytest.fixture
async def owner(mercato_addresses, runtime):
    """A connection as the owner of the tables."""
    connection = await asyncpg.connect(mercato_addresses.database_url)
    yield connection
    await connection.close()


def _partitions(owner, year):
    return owner.fetch(
        "select relname, relowner::regrole::text as owner, relrowsecurity and relforcerowsecurity as protected, relacl"
        " from pg_class where relname ~ $1 and relkind = 'r' order by 1",
        f"^usage_{year}_",
    )


async def _rows(database, tenant_id):
    async with database.tenant(tenant_id, read_only=True) as db:
        return await db.rows(select(UsageRecord).order_by(col(UsageRecord.at), col(UsageRecord.id)))


async def _read(database, tenant_id, by="tool", days=SPAN, **options):
    async with database.tenant(tenant_id, read_only=True) as db:
        return await read_usage(db, by, days, **{"limit": 100, **options})


async def test_a_record_holds_who_what_and_how_much_and_estimates_the_tokens(database, tenant, write):
    await write(used(tenant.id, at=NOON + 0.123456, cost_cents=3))
    [row] = await _rows(database, tenant.id)
    assert row.at == datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert (row.tenant_id, row.kind, row.credential_id, row.client_id) == (tenant.id, "key", 12, "key:12")
    assert (row.session_id, row.request_id, row.tool, row.category) == (
        "session-1",
        "request-1",
        "get_order",
        "commerce",
    )
    assert (row.outcome, row.duration_us, row.cost_cents) == ("ok", 10_000, 3)
    assert (row.request_bytes, row.answer_bytes, row.request_tokens, row.answer_tokens) == (78, 391, 20, 101)


async def test_a_batch_that_is_written_again_is_stored_once(database, tenant):
    writer, batch = UsageWriter(database), [used(tenant.id) for _ in range(5)]
    for _ in range(2):
        await writer.write(1_000, batch)
    assert [row.id for row in await _rows(database, tenant.id)] == [1_000, 1_001, 1_002, 1_003, 1_004]


async def test_the_last_moment_of_a_month_stays_in_it(database, tenant, write):
    last = datetime(2032, 5, 1, tzinfo=UTC).timestamp() - 0.0000003
    assert months_of([last]) == {date(2032, 5, 1).replace(month=4)}
    await write(used(tenant.id, at=last))
    assert [row.at for row in await _rows(database, tenant.id)] == [
        datetime(2032, 4, 30, 23, 59, 59, 999999, tzinfo=UTC)
    ]


async def test_a_month_gets_its_partition_with_its_first_record(database, tenant, owner, write):
    assert await _partitions(owner, 2033) == []
    await write(used(tenant.id, at=datetime(2033, 2, 3, tzinfo=UTC).timestamp()))
    [partition] = await _partitions(owner, 2033)
    assert partition["relname"] == "usage_2033_02"
    await write(
        used(tenant.id, at=datetime(2033, 12, 31, tzinfo=UTC).timestamp()),
        used(tenant.id, at=datetime(2034, 1, 1, tzinfo=UTC).timestamp()),
    )
    assert [row["relname"] for row in await _partitions(owner, "203[34]")] == [
        "usage_2033_02",
        "usage_2033_12",
        "usage_2034_01",
    ]


async def test_a_partition_belongs_to_the_owner_of_the_tables_and_nobody_has_a_right_on_it(owner, tenant, write):
    await write(used(tenant.id, at=datetime(2035, 1, 1, tzinfo=UTC).timestamp()))
    [partition] = await _partitions(owner, 2035)
    assert partition["protected"]
    assert partition["relacl"] is None
    assert partition["owner"] == await owner.fetchval("select current_user::text")
    for role in ("mercato_app", "mercato_system"):
        assert not await owner.fetchval(
            "select has_any_column_privilege($1, 'mercato.usage_2035_01', 'select, insert, update')", role
        )


async def test_replicas_that_make_a_partition_at_once_make_one(mercato_addresses, runtime, tenant, owner):
    replicas = [Database(mercato_addresses.database_url, pool_size=1) for _ in range(3)]
    at = datetime(2036, 7, 1, tzinfo=UTC).timestamp()
    await asyncio.gather(*(UsageWriter(one).write(n * 10, [used(tenant.id, at)]) for n, one in enumerate(replicas)))
    assert len(await _partitions(owner, 2036)) == 1
    assert len(await _rows(replicas[0], tenant.id)) == 3
    for one in replicas:
        await one.close()


async def test_months_that_are_over_are_dropped_whole_and_come_back_when_written_to(database, tenant, owner):
    writer = UsageWriter(database)
    times = [datetime(2001, month, 15, tzinfo=UTC).timestamp() for month in (1, 2, 3)]
    await writer.write(1, [used(tenant.id, at) for at in times])
    async with database.system() as session:
        drop = sa.text("select mercato.drop_usage_before('2001-03-20')")
        assert await (await session.connection()).scalar(drop) == 2
    assert [row.at.month for row in await _rows(database, tenant.id)] == [3]
    late = [used(tenant.id, times[1])]
    with pytest.raises(DBAPIError, match="no partition"):
        await writer.write(10, late)
    await writer.write(10, late)
    assert [row.at.month for row in await _rows(database, tenant.id)] == [2, 3]


async def test_tools_can_neither_write_records_nor_make_nor_drop_partitions(database, tenant, write):
    await write(used(tenant.id))
    for statement in (
        "insert into mercato.usage select * from mercato.usage",
        "update mercato.usage set cost_cents = 0",
        "delete from mercato.usage",
        "select mercato.make_usage_partition('2040-01-01')",
        "select mercato.drop_usage_before('2040-01-01')",
        "select * from mercato.usage_2026_01",
    ):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.tenant(tenant.id) as db:
                await (await db.session.connection()).execute(sa.text(statement))
    assert len(await _rows(database, tenant.id)) == 1


async def test_the_system_writes_records_and_cannot_read_them(database, tenant, write):
    await write(used(tenant.id))
    for statement in ("select * from mercato.usage", "delete from mercato.usage"):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.system() as session:
                await (await session.connection()).execute(sa.text(statement))


async def test_two_tenants_never_see_each_others(database, tenant, other_tenant, write):
    await write(used(tenant.id), used(other_tenant.id, tool="list_orders"), used(other_tenant.id))
    assert {row.tenant_id for row in await _rows(database, tenant.id)} == {tenant.id}
    summary = await _read(database, tenant.id)
    assert summary.total.calls == 1
    assert [group.key for group in summary.groups] == ["get_order"]
    assert (await _read(database, other_tenant.id)).total.calls == 2


async def test_a_summary_counts_errors_apart(database, tenant, write):
    outcomes = ["ok", "replayed", "invalid_arguments", "timed_out", "cancelled"]
    await write(*(used(tenant.id, outcome=outcome) for outcome in outcomes))
    total = (await _read(database, tenant.id)).total
    assert (total.calls, total.errors) == (5, 3)


async def test_a_summary_adds_up_and_takes_the_ninety_fifth_percentile(database, tenant, write):
    await write(*(used(tenant.id, duration_us=ms * 1_000, cost_cents=2) for ms in range(1, 101)))
    total = (await _read(database, tenant.id)).total
    assert (total.mean_ms, total.p95_ms) == (pytest.approx(50.5), pytest.approx(95.05))
    assert (total.request_bytes, total.answer_bytes, total.cost_cents) == (7_800, 39_100, 200)
    assert (total.request_tokens, total.answer_tokens) == (2_000, 10_100)


async def test_nothing_called_is_zero_and_no_time(database, tenant):
    summary = await _read(database, tenant.id)
    assert (summary.total.calls, summary.total.mean_ms, summary.total.p95_ms) == (0, None, None)
    assert (summary.total.cost_cents, summary.groups, summary.more) == (0, [], False)


async def test_calls_are_grouped_by_tool_user_client_and_day(database, tenant, write):
    grace = (await add_member(database, tenant.id, "grace@acme.example", "Grace", Role.MEMBER)).user_id
    await write(
        used(tenant.id, user_id=grace),
        used(tenant.id, at=NOON + DAY, user_id=grace, client_id="https://claude.example"),
        used(tenant.id, at=NOON + DAY, tool="list_orders", client_id=None),
    )
    shown = {
        by: [(one.key, one.name, one.consumed.calls) for one in (await _read(database, tenant.id, by)).groups]
        for by in ("tool", "user", "client", "day")
    }
    assert shown == {
        "tool": [("get_order", None, 2), ("list_orders", None, 1)],
        "user": [(str(grace), "Grace", 2), ("", None, 1)],
        "client": [("", None, 1), ("https://claude.example", None, 1), ("key:12", None, 1)],
        "day": [("2026-02-01", None, 2), ("2026-01-31", None, 1)],
    }


@pytest.mark.parametrize("by", ["tool", "day"])
async def test_pages_of_groups_show_each_once(database, tenant, write, by):
    await write(*(used(tenant.id, NOON - n * DAY, tool=f"tool_{n}") for n in range(7) for _ in range(n % 3 + 1)))
    whole, seen, after = (await _read(database, tenant.id, by)).groups, [], None
    while True:
        page = await _read(database, tenant.id, by, after=after, limit=2)
        seen += page.groups
        after = (seen[-1].consumed.calls, seen[-1].key)
        if not page.more:
            break
    assert seen == whole
    assert len(seen) == 7


async def test_days_are_whole_in_utc_and_both_ends_belong(database, tenant, write):
    midnight = datetime(2026, 1, 31, tzinfo=UTC).timestamp()
    await write(*(used(tenant.id, at) for at in (midnight - 0.001, midnight, midnight + DAY - 0.001, midnight + DAY)))
    counted = [
        (await _read(database, tenant.id, days=Days(date(2026, 1, first), date(2026, 1, last)))).total.calls
        for first, last in ((31, 31), (30, 31), (30, 30))
    ]
    assert counted == [2, 3, 1]


def test_the_ends_of_the_calendar_are_days_too():
    assert list(Days.up_to(date(2026, 3, 1), 2)) == [date(2026, 2, 28), date(2026, 3, 1)]
    assert Days.up_to(date.min).first == date.min
    assert list(Days(date.max, date.max)) == [date.max]
    assert Days(date.max, date.max).cover(sa.column("at", sa.DateTime())) is not None
