"""Who a credential speaks for is looked up once, however many ask at the same time, and anew after a change."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from mercato.server.auth import directory as module
from mercato.server.changes import Change
from mercato.tenancy.keys import list_keys, revoke_key
from mercato.tenancy.principal import Principal
from tests.server.conftest import modern


class LookUps:
    """Counts look-ups of keys, and holds them until it is told to let them go on."""

    def __init__(self) -> None:
        self.count = 0
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._authenticate = module.authenticate_key

    async def __call__(self, database: Any, text: str) -> Principal | None:
        found = await self._authenticate(database, text)
        self.count += 1
        self.begun.set()
        await self.go_on.wait()
        return found


@pytest.fixture
def look_ups(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> LookUps:
    found = LookUps()
    monkeypatch.setattr(module, "authenticate_key", found)
    return found


async def test_a_crowd_with_one_key_is_looked_up_once(site, acme, look_ups):
    async with site.client(await site.key(acme)) as client:
        asking = [asyncio.create_task(modern(client, "tools/list")) for _ in range(20)]
        with anyio.fail_after(10):
            await look_ups.begun.wait()
            look_ups.go_on.set()
            assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    assert look_ups.count == 1


async def test_one_that_goes_takes_nothing_from_those_who_wait_with_it(site, acme, look_ups):
    async with site.client(await site.key(acme)) as client:
        first = asyncio.create_task(modern(client, "tools/list"))
        with anyio.fail_after(10):
            await look_ups.begun.wait()
            second = asyncio.create_task(modern(client, "tools/list"))
            first.cancel()
            look_ups.go_on.set()
            assert (await second).status_code == 200


async def test_nobody_joins_a_look_up_that_began_before_a_change(site, acme, look_ups):
    async with site.client(await site.key(acme)) as client:
        early = asyncio.create_task(modern(client, "tools/list"))
        with anyio.fail_after(10):
            await look_ups.begun.wait()
            async with site.runtime.database.tenant(acme.id) as db:
                await revoke_key(db, (await list_keys(db))[0].id)
            await site.runtime.changes.publish(Change("access", acme.id))
            late = asyncio.create_task(modern(client, "tools/list"))
            look_ups.go_on.set()
            assert (await late).status_code == 401
            await early
    assert look_ups.count == 2
