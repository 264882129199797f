from __future__ import annotations

import secrets
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from mercato.tenancy.accounts import ensure_account
from mercato.tenancy.rows import utc_now
from mercato.tenancy.sessions import (
    LONGEST,
    LONGEST_IDLE,
    BrowserSession,
    choose_tenant,
    end_session,
    end_sessions,
    find_session,
    list_sessions,
    purge_sessions,
    start_session,
)
from mercato.tenancy.signing import digest


async def person(database):
    async with database.system() as session:
        return (await ensure_account(session, f"{secrets.token_hex(6)}@example.com", "Ada")).id


@pytest.fixture
async def user_id(database):
    return await person(database)


async def changed(database, token, **values):
    one = sa.update(BrowserSession).where(col(BrowserSession.digest) == digest(token))
    async with database.system() as session:
        await session.exec(one.values(**values))


async def row_of(database, token):
    one = sa.select(BrowserSession.__table__).where(col(BrowserSession.digest) == digest(token))
    async with database.system() as session:
        return (await session.exec(one)).one()


async def test_a_session_is_found_by_its_token_of_which_only_a_hash_is_stored(database, user_id):
    token = await start_session(database, user_id, "Firefox on Linux")
    found = await find_session(database, token)
    assert (found.user_id, found.name, found.chosen_tenant_id) == (user_id, "Ada", None)
    assert token not in repr(await row_of(database, token))
    for wrong in ("", "x", token[:-1], token + "=", token.swapcase()):
        assert await find_session(database, wrong) is None


async def test_every_session_has_a_token_of_its_own(database, user_id):
    assert len({await start_session(database, user_id, "") for _ in range(5)}) == 5


async def test_a_session_that_was_not_seen_for_long_is_over(database, user_id):
    token = await start_session(database, user_id, "")
    expires_at = (await row_of(database, token)).expires_at
    assert abs(expires_at - utc_now() - LONGEST_IDLE) < timedelta(minutes=1)
    await changed(database, token, expires_at=utc_now() - timedelta(seconds=1))
    assert await find_session(database, token) is None
    assert await list_sessions(database, user_id) == []


async def test_a_session_that_is_used_goes_on_and_at_the_latest_to_its_end(database, user_id):
    token = await start_session(database, user_id, "")
    seen = utc_now() - timedelta(days=3)
    await changed(database, token, last_seen_at=seen, expires_at=seen + LONGEST_IDLE)
    assert await find_session(database, token) is not None
    row = await row_of(database, token)
    assert row.last_seen_at > seen
    assert abs(row.expires_at - utc_now() - LONGEST_IDLE) < timedelta(minutes=1)
    began = utc_now() - LONGEST + timedelta(hours=1)
    await changed(database, token, created_at=began, last_seen_at=seen)
    assert await find_session(database, token) is not None
    assert (await row_of(database, token)).expires_at == began + LONGEST


async def test_a_session_that_is_over_is_purged(database, user_id):
    token, good = [await start_session(database, user_id, "") for _ in range(2)]
    await changed(database, token, expires_at=utc_now() - timedelta(seconds=1))
    assert await purge_sessions(database, utc_now()) >= 1
    assert await purge_sessions(database, utc_now()) == 0
    assert await find_session(database, good) is not None
    with pytest.raises(sa.exc.NoResultFound):
        await row_of(database, token)


async def test_a_person_has_so_many_sessions_and_the_oldest_go(database, user_id, monkeypatch):
    monkeypatch.setattr("mercato.tenancy.sessions._MOST_OF_ONE", 3)
    other = await person(database)
    of_other = await start_session(database, other, "")
    tokens = [await start_session(database, user_id, "") for _ in range(5)]
    good = [token for token in tokens if await find_session(database, token) is not None]
    assert good == tokens[-3:]
    assert await find_session(database, of_other) is not None


async def test_ending_one_leaves_the_others_and_ending_all_leaves_those_of_others(database, user_id):
    one, two, three = [await start_session(database, user_id, "") for _ in range(3)]
    of_other = await start_session(database, await person(database), "")
    await end_session(database, one)
    await end_session(database, "unknown")
    assert await find_session(database, one) is None
    keep = (await find_session(database, two)).session_id
    assert await end_sessions(database, user_id, but=keep) == 1
    assert await find_session(database, three) is None
    assert [one.id for one in await list_sessions(database, user_id)] == [keep]
    assert await end_sessions(database, user_id) == 1
    assert await find_session(database, of_other) is not None


async def test_a_session_remembers_the_business_that_was_chosen(database, user_id, tenant):
    token = await start_session(database, user_id, "")
    await choose_tenant(database, (await find_session(database, token)).session_id, tenant.id)
    assert (await find_session(database, token)).chosen_tenant_id == tenant.id


async def test_a_device_is_cut_to_what_can_be_shown(database, user_id):
    token = await start_session(database, user_id, "x" * 500)
    assert (await row_of(database, token)).device == "x" * 120
