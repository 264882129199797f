"""Engines outside: one sentence when they cannot be used, without the password."""

from __future__ import annotations

import pytest

from mercato.server.engines import EngineError
from mercato.server.reachable import check_database, check_redis, may_migrate
from mercato.server.runtime import Addresses


async def test_engines_that_answer_tell_their_version(mercato_addresses: Addresses):
    assert (await check_database(mercato_addresses.database_url)).startswith("18.")
    assert await check_redis(mercato_addresses.redis_url)


async def test_a_database_that_is_away_is_named_without_its_password():
    with pytest.raises(EngineError, match="DATABASE_URL") as refusal:
        await check_database("postgresql+asyncpg://mercato:hunter2@127.0.0.1:1/mercato")
    assert "127.0.0.1:1" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


async def test_a_redis_that_is_away_is_named_without_its_password():
    with pytest.raises(EngineError, match="REDIS_URL") as refusal:
        await check_redis("redis://:hunter2@127.0.0.1:1")
    assert "hunter2" not in str(refusal.value)


async def test_an_address_of_no_known_kind_says_which_there_are():
    with pytest.raises(EngineError, match="redis://"):
        await check_redis("http://127.0.0.1")


async def test_a_database_that_is_too_old_is_refused(mercato_addresses: Addresses, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mercato.server.reachable.OLDEST_POSTGRES", 99)
    with pytest.raises(EngineError, match="version 18: 99 or newer"):
        await check_database(mercato_addresses.database_url)


async def test_who_may_migrate_is_told(mercato_addresses: Addresses):
    assert await may_migrate(mercato_addresses.database_url)


async def test_an_address_of_a_database_says_how_it_must_begin():
    with pytest.raises(EngineError, match="postgresql://"):
        await check_database("nonsense")
