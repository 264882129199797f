"""Delivery: a call learns whether its answer was handed to an open connection."""

from __future__ import annotations

import anyio
import pytest

from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site
from tests.server.sessions.client import call
from tests.server.sessions.slow import fates, gates


@pytest.mark.parametrize("token", [None, "p"])
async def test_an_answer_that_was_written_is_delivered(a: Site, connect, shop: Tenant, token: str | None):
    client, fate = await (await connect()).open(a), fates[shop.slug]
    gates[shop.slug].opened.set()
    answer = await client.post(a, call("deliver", token=token, gate=shop.slug))
    with anyio.fail_after(5):
        await fate.settled.wait()
    assert answer.headers["content-type"] == ("text/event-stream" if token else "application/json")
    assert (fate.delivered, fate.abandoned.is_set()) == (True, False)


@pytest.mark.parametrize("token", [None, "p"])
async def test_an_answer_whose_client_has_left_is_not(a: Site, connect, shop: Tenant, token: str | None):
    client, fate, gate = await (await connect()).open(a), fates[shop.slug], gates[shop.slug]
    async with anyio.create_task_group() as group:
        group.start_soon(client.post, a, call("deliver", token=token, gate=shop.slug))
        await gate.reached.wait()
        group.cancel_scope.cancel()
    with anyio.fail_after(5):
        await fate.abandoned.wait()
        gate.opened.set()
        await fate.settled.wait()
    assert fate.delivered is False


async def test_an_answer_that_goes_to_the_resumed_stream_here_is_delivered(a: Site, connect, shop: Tenant):
    client, fate, gate = await (await connect()).open(a), fates[shop.slug], gates[shop.slug]
    async with client.streamed(a, call("deliver", token="p", gate=shop.slug)) as stream:
        primed = await stream.next()
    async with client.listening(a, primed.id) as stream:
        await stream.message()
        gate.opened.set()
        assert "result" in await stream.message()
    with anyio.fail_after(5):
        await fate.settled.wait()
    assert fate.delivered is True


async def test_a_stream_that_we_close_ourselves_is_not_abandoned(a: Site, connect, shop: Tenant):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with client.streamed(a, call("poll", gate=shop.slug)) as stream:
        await stream.rest()
        gate.opened.set()
    assert not fates[shop.slug].abandoned.is_set()
