from __future__ import annotations

import itertools
from datetime import timedelta

import anyio
import pytest
import sqlalchemy as sa

from mercato.server.oauth.signing import SigningKeys
from mercato.tenancy import signing_keys as module
from mercato.tenancy.rows import utc_now
from mercato.tenancy.secrets import KeyRing, new_key
from mercato.tenancy.signing_keys import PUBLISHED_AFTER, PUBLISHED_BEFORE, SIGNS_FOR, SigningKey, load_signing_keys

_number = itertools.count(1)


@pytest.fixture
async def nothing_stored(database):
    """No keys while the test runs; those that were there come back."""
    table = SigningKey.__table__
    async with database.system() as session:
        before = [dict(row._mapping) for row in await session.exec(sa.select(table))]
        await session.exec(sa.delete(table))
    yield
    async with database.system() as session:
        await session.exec(sa.delete(table))
        if before:
            await session.exec(sa.insert(table), params=before)


@pytest.fixture
def ring():
    return KeyRing.from_text(new_key())


@pytest.fixture
def later(monkeypatch):
    """Let time have passed."""

    def pass_time(by):
        monkeypatch.setattr(module, "utc_now", lambda: utc_now() + by)

    return pass_time


async def make():
    kid = f"key-{next(_number)}"
    return kid, {"kid": kid, "n": "public"}, {"kid": kid, "d": "private"}


async def test_the_first_key_is_made_at_its_first_use_and_then_there(database, nothing_stored, ring):
    [key] = await load_signing_keys(database, ring, make)
    assert key.private["d"] == "private"
    assert key.active_from <= utc_now()
    [again] = await load_signing_keys(database, ring, make)
    assert again.kid == key.kid


async def test_of_those_that_come_at_once_one_makes_the_key(database, nothing_stored, ring):
    found = []

    async def load():
        found.append([key.kid for key in await load_signing_keys(database, ring, make)])

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(load)
    assert len({tuple(keys) for keys in found}) == 1


async def test_the_private_half_is_sealed(database, nothing_stored, ring):
    await load_signing_keys(database, ring, make)
    async with database.system() as session:
        row = (await session.exec(sa.select(SigningKey.__table__))).one()
    assert b"private" not in row.sealed
    assert "private" not in repr(row.public)


async def test_the_next_key_is_published_a_day_before_it_signs_and_the_last_one_stays_known(
    database, nothing_stored, ring, later
):
    [first] = await load_signing_keys(database, ring, make)
    later(SIGNS_FOR - PUBLISHED_BEFORE - timedelta(hours=1))
    assert len(await load_signing_keys(database, ring, make)) == 1
    later(SIGNS_FOR - PUBLISHED_BEFORE + timedelta(hours=1))
    following, before = await load_signing_keys(database, ring, make)
    assert before.kid == first.kid
    assert following.active_from >= first.active_from + SIGNS_FOR
    later(SIGNS_FOR + PUBLISHED_AFTER - timedelta(hours=1))
    assert first.kid in {key.kid for key in await load_signing_keys(database, ring, make)}


async def test_a_key_that_comes_late_is_published_for_a_day_too(database, nothing_stored, ring, later):
    await load_signing_keys(database, ring, make)
    late = 3 * SIGNS_FOR // 2
    later(late)
    following, _ = await load_signing_keys(database, ring, make)
    assert following.active_from - (utc_now() + late) > PUBLISHED_BEFORE - timedelta(minutes=1)


async def test_keys_that_can_have_signed_nothing_for_long_are_removed(database, nothing_stored, ring, later):
    [first] = await load_signing_keys(database, ring, make)
    later(SIGNS_FOR)
    await load_signing_keys(database, ring, make)
    later(2 * SIGNS_FOR + PUBLISHED_BEFORE)
    await load_signing_keys(database, ring, make)
    later(2 * SIGNS_FOR + 2 * PUBLISHED_AFTER + timedelta(days=SIGNS_FOR.days))
    await load_signing_keys(database, ring, make)
    kids = {key.kid for key in await load_signing_keys(database, ring, make)}
    assert first.kid not in kids
    assert kids


async def test_a_key_whose_seal_cannot_be_opened_verifies_and_another_signs(database, nothing_stored, ring):
    [old] = await load_signing_keys(database, ring, make)
    other = KeyRing.from_text(new_key())
    found = await load_signing_keys(database, other, make)
    assert {key.kid: key.private is None for key in found}[old.kid] is True
    assert sum(key.private is not None for key in found) == 1


async def test_a_process_signs_with_the_key_that_is_active_and_publishes_the_next(
    database, nothing_stored, ring, later
):
    keys = SigningKeys(database, ring)
    first = await keys.signing()
    later(SIGNS_FOR - PUBLISHED_BEFORE + timedelta(hours=1))
    fresh = SigningKeys(database, ring)
    assert (await fresh.signing()).kid == first.kid
    published = await fresh.public()
    assert len(published) == 2
    assert all("d" not in key and "p" not in key for key in published)
    assert await fresh.verifying(published[0]["kid"]) is not None
    assert await fresh.verifying("unknown") is None
