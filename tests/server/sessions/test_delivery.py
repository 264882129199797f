"""Delivery: a call learns whether its answer was handed to an open connection."""

from __future__ import annotations

import anyio
import pytest

from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site
from tests.server.sessions.client import call
from tests.server.sessions.slow import fates, gates
from tests.server.sessions.test_http_sse import open_sse, shake_hands


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


async def test_an_answer_that_another_replica_writes_is_delivered_too(a: Site, b: Site, connect, shop: Tenant):
    client, fate, gate = await (await connect()).open(a), fates[shop.slug], gates[shop.slug]
    async with client.streamed(a, call("deliver", token="p", gate=shop.slug)) as stream:
        primed = await stream.next()
    async with client.listening(b, primed.id) as stream:
        await stream.message()
        gate.opened.set()
        assert "result" in await stream.message()
    with anyio.fail_after(5):
        await fate.settled.wait()
    assert fate.delivered is True


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_an_answer_over_http_sse_is_delivered_where_its_stream_is(
    a: Site, b: Site, connect, shop: Tenant, elsewhere: bool
):
    client, fate = await connect(), fates[shop.slug]
    gates[shop.slug].opened.set()
    async with open_sse(client, a) as (stream, address):
        await shake_hands(client, stream, address, a)
        await client.at(b if elsewhere else a).post(address, json=call("deliver", gate=shop.slug))
        await stream.message()
        with anyio.fail_after(5):
            await fate.settled.wait()
    assert fate.delivered is True
