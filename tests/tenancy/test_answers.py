"""What is kept of answers: who finds it, who may change it, and how long it stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from mercato.tenancy import answers
from mercato.tenancy.answers import KEPT, Answer
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.rows import utc_now


@dataclass(frozen=True)
class Called:
    tenant_id: int
    principal: str = "local:None:None:1"
    tool: str = "keep"
    digest: bytes = b"f" * 32
    key: bytes | None = None
    state: bytes | None = None


@pytest.fixture
def call(tenant):
    return Called(tenant.id)


@pytest.fixture
def keep(database, runtime):
    """Keep an answer of a call; return its id."""

    async def write(call, status="committed", at=None):
        sealed = answers.seal(runtime.ring, call, b"{}")
        async with database.tenant(call.tenant_id) as db:
            return await answers.keep(db, call, sealed, status, at or utc_now())

    return write


async def found(database, call, now=None):
    return [row.id for row in await answers.look_up(database, call, now or utc_now())]


async def test_a_call_is_found_by_what_it_is_by_its_key_and_by_its_state(database, call, keep):
    first = await keep(replace(call, key=b"k", state=b"s"))
    assert await found(database, call) == [first]
    assert await found(database, replace(call, digest=b"other", key=b"k")) == [first]
    assert await found(database, replace(call, digest=b"other", state=b"s")) == [first]
    assert await found(database, replace(call, digest=b"other", key=b"other", state=b"other")) == []


async def test_under_a_key_only_the_key_counts(database, call, keep):
    await keep(call)
    assert await found(database, replace(call, key=b"k")) == []


async def test_an_answer_is_found_by_its_tenant_and_its_principal_only(database, call, keep, other_tenant):
    await keep(replace(call, key=b"k", state=b"s"))
    for stranger in (Called(other_tenant.id), Called(call.tenant_id, principal="local:None:None:2")):
        assert await found(database, replace(stranger, state=b"s")) == []
        assert await found(database, replace(stranger, key=b"k")) == []


async def test_the_database_itself_keeps_tenants_apart(database, call, keep, other_tenant):
    await keep(call)
    async with database.tenant(other_tenant.id) as db:
        assert await db.rows(select(Answer)) == []


async def test_answers_are_found_for_ten_minutes(database, call, keep):
    now = utc_now()
    first = await keep(call, at=now)
    assert await found(database, call, now + KEPT - timedelta(seconds=1)) == [first]
    assert await found(database, call, now + KEPT) == []


async def test_a_look_within_a_transaction_of_the_tenant_has_the_lock_and_finds_the_answer(database, call, keep):
    first, seen = await keep(call), []

    def begin(connection):
        seen.append(answers.look_up_within(connection, call, utc_now(), lock=True))

    async with database.tenant(call.tenant_id) as db:
        db.open_with(begin)
        await db.session.exec(select(Answer))
        assert await db.session.scalar(sa.text("select current_setting('app.tenant_id')")) == str(call.tenant_id)
    [(has_lock, rows)] = seen
    assert (has_lock, [row.id for row in rows]) == (True, [first])


@pytest.mark.parametrize(
    ("mine", "other", "free"),
    [
        ({}, {}, False),
        ({}, {"digest": b"other" * 5}, True),
        ({"key": b"k" * 9}, {"key": b"k" * 9, "digest": b"other" * 5}, False),
        ({"key": b"k" * 9}, {"key": b"l" * 9}, True),
        ({"key": b"k" * 9}, {}, False),
        ({"state": b"s" * 9}, {"state": b"s" * 9, "digest": b"other" * 5}, False),
    ],
)
async def test_one_transaction_at_a_time_has_the_lock_of_a_call(database, call, mine, other, free):
    async with database.tenant(call.tenant_id) as db, database.tenant(call.tenant_id) as beside:
        locks = []
        for opened, what in ((db, mine), (beside, other)):
            opened.open_with(
                lambda connection, what=what: locks.append(
                    answers.look_up_within(connection, replace(call, **what), utc_now(), lock=True)[0]
                )
            )
            await opened.session.exec(select(Answer))
        assert locks == [True, free]


async def test_a_request_state_is_used_once(call, keep):
    await keep(replace(call, state=b"s"))
    with pytest.raises(sa.exc.IntegrityError):
        await keep(replace(call, digest=b"other", state=b"s"))


async def test_tools_can_neither_change_nor_remove_what_is_kept(database, call, keep):
    await keep(call)
    for statement in (sa.update(Answer).values(status="delivered"), sa.delete(Answer)):
        with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
            async with database.tenant(call.tenant_id) as db:
                await db.session.exec(statement)


async def test_a_fate_is_written_and_what_nobody_can_ask_for_goes(database, call, keep, other_tenant):
    calls = [call, replace(call, key=b"k"), replace(call, state=b"s"), Called(other_tenant.id), call]
    ids = [await keep(one) for one in calls]
    await answers.write_fates(database, dict(zip(ids, [True, True, True, False, False], strict=True)))
    statuses = {}
    for tenant_id in (call.tenant_id, other_tenant.id):
        async with database.tenant(tenant_id) as db:
            statuses |= {row.id: row.status for row in await db.rows(select(Answer).order_by(col(Answer.id)))}
    assert statuses == dict(zip(ids[1:], ["delivered", "delivered", "undelivered", "undelivered"], strict=True))


async def test_a_mark_is_seen_by_the_same_call_until_it_is_taken_back(database, call):
    mark = await answers.mark_abandoned(database, call, utc_now())
    [seen] = await answers.look_up(database, call, utc_now())
    assert (seen.id, seen.status) == (mark, "abandoned")
    await answers.write_fates(database, {mark: True})
    assert await found(database, call) == [mark]
    await answers.unmark(database, mark)
    assert await found(database, call) == []


async def test_sweeping_removes_what_is_past_its_time(database, call, keep):
    now = utc_now()
    await keep(call, at=now - KEPT)
    young = await keep(call, at=now - KEPT + timedelta(minutes=1))
    assert await answers.purge_answers(database, now) >= 1
    assert await answers.purge_answers(database, now) == 0
    async with database.tenant(call.tenant_id) as db:
        assert [row.id for row in await db.rows(select(Answer))] == [young]


async def test_an_answer_is_sealed_for_its_tenant_and_its_call(runtime, database, call, keep, other_tenant):
    await keep(call)
    [row] = await answers.look_up(database, call, utc_now())
    assert answers.unseal(runtime.ring, call, row) == b"{}"
    for moved in (Called(other_tenant.id), call):
        with pytest.raises(InvalidValue):
            answers.unseal(runtime.ring, moved, replace(row, fingerprint=b"other" * 6) if moved is call else row)
