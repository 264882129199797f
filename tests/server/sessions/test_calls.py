"""Calls: cancelled from anywhere, one at a time under one id, and never waited for in vain."""

from __future__ import annotations

import anyio
import pytest

from mercato.server.mcp.sessions import names
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site
from tests.server.sessions.client import call
from tests.server.sessions.conftest import parts_of
from tests.server.sessions.slow import gates


async def test_a_cancellation_at_another_replica_reaches_the_call(a: Site, b: Site, connect, shop: Tenant):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with client.streamed(a, call("step", 7, token="p", gate=shop.slug)) as stream:
        await gate.reached.wait()
        await client.notify(b, "notifications/cancelled", {"requestId": 7, "reason": "changed my mind"})
        events = await stream.rest()
    assert gate.cancelled.is_set()
    assert events[-1].message == {"jsonrpc": "2.0", "id": 7, "error": {"code": -32800, "message": "Request cancelled"}}


@pytest.mark.parametrize("token", [None, "p"])
async def test_a_cancellation_that_comes_before_the_call_is_known_is_not_lost(
    a: Site, b: Site, connect, shop: Tenant, token: str | None
):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    await client.notify(b, "notifications/cancelled", {"requestId": "7"})
    answer = await client.post(a, call("wait", "7", token=token, gate=shop.slug))
    assert answer.json()["error"]["code"] == -32800
    assert gate.cancelled.is_set()


async def test_ids_keep_their_type(a: Site, b: Site, connect, shop: Tenant):
    client, number, text = await (await connect()).open(a), gates[f"{shop.slug}-n"], gates[f"{shop.slug}-t"]
    async with (
        client.streamed(a, call("step", 1, token="n", gate=f"{shop.slug}-n")) as numbered,
        client.streamed(b, call("step", "1", token="t", gate=f"{shop.slug}-t")) as named,
    ):
        await number.reached.wait()
        await text.reached.wait()
        await client.notify(b, "notifications/cancelled", {"requestId": 1})
        cancelled = (await numbered.rest())[-1].message
        text.opened.set()
        done = (await named.rest())[-1].message
    assert (cancelled["id"], cancelled["error"]["code"]) == (1, -32800)
    assert (done["id"], "result" in done) == ("1", True)


async def test_a_cancellation_from_another_session_does_nothing(a: Site, b: Site, connect, shop: Tenant):
    client, other, gate = await (await connect()).open(a), await (await connect()).open(b), gates[shop.slug]
    async with client.streamed(a, call("step", 7, token="p", gate=shop.slug)) as stream:
        await gate.reached.wait()
        assert (await other.notify(b, "notifications/cancelled", {"requestId": 7})).status_code == 202
        assert (await other.notify(a, "notifications/cancelled", {"requestId": 7})).status_code == 202
        gate.opened.set()
        assert "result" in (await stream.rest())[-1].message


@pytest.mark.parametrize("token", [None, "p"])
async def test_an_id_that_is_in_flight_is_refused_at_every_replica_and_nothing_runs(
    a: Site, b: Site, connect, shop: Tenant, token: str | None
):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    second = gates[f"{shop.slug}-second"]
    async with anyio.create_task_group() as group:
        group.start_soon(client.post, a, call("wait", 5, token=token, gate=shop.slug))
        await gate.reached.wait()
        with anyio.fail_after(5):
            while not await a.runtime.redis.hexists(names.part_key(client.session_id, "calls"), "5"):
                pass
        for site in (a, b):
            refused = await client.post(site, call("wait", 5, token="q", gate=f"{shop.slug}-second"))
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32600)
            assert refused.json()["id"] == 5
        assert not second.reached.is_set()
        gate.opened.set()
    assert (await client.call(b, "echo", 5)).status_code == 200  # free again


async def test_a_session_may_have_so_many_calls_in_flight(a: Site, connect, bounds, shop: Tenant):
    bounds(most_calls=2)
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with anyio.create_task_group() as group:
        for number in (1, 2):
            group.start_soon(client.post, a, call("wait", number, token="p", gate=shop.slug))
        with anyio.fail_after(5):
            while len(parts_of(a).calls.running) < 2:
                await anyio.lowlevel.checkpoint()
        refused = await client.call(a, "echo", 3)
        gate.opened.set()
    assert (refused.status_code, refused.json()["error"]["code"], refused.json()["id"]) == (429, -32603, 3)
    assert int(refused.headers["retry-after"]) > 0


async def test_a_short_call_is_never_made_known_in_redis(a: Site, connect):
    client = await (await connect()).open(a)
    await client.call(a, "echo")
    await client.ask(a, "resources/list")
    assert not await a.runtime.redis.exists(names.part_key(client.session_id, "calls"))


async def test_a_client_that_leaves_has_not_cancelled_its_call(a: Site, connect, shop: Tenant):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with anyio.create_task_group() as group:
        group.start_soon(client.post, a, call("wait", token="p", gate=shop.slug))
        await gate.reached.wait()
        group.cancel_scope.cancel()
    gate.opened.set()
    with anyio.fail_after(5):
        while not gate.passed:
            await anyio.lowlevel.checkpoint()
    assert not gate.cancelled.is_set()


async def test_an_id_that_is_too_long_is_refused(a: Site, connect):
    client = await (await connect()).open(a)
    refused = await client.post(a, call("echo", "x" * 300, token="p"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32600)


async def test_an_id_may_be_used_again_at_once_anywhere(a: Site, b: Site, c: Site, connect, shop: Tenant, bounds):
    bounds(register_after_s=0)
    client = await (await connect()).open(a)
    gates[shop.slug].opened.set()
    for site in (a, b, c, a, a, b):
        plain = await client.post(site, call("wait", 1, gate=shop.slug))
        streamed = await client.post(site, call("step", 1, token="p", gate=shop.slug))
        assert "result" in plain.json()
        assert '"result"' in streamed.text
