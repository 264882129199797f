"""Replicas: one that is lost leaves nobody waiting, and one that ends sends its clients on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.applications import Starlette

from mercato.server.app import create_app
from mercato.server.mcp.sessions import names
from mercato.server.settings import Settings
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import Site, listening
from tests.server.sessions import slow
from tests.server.sessions.client import McpClient, call
from tests.server.sessions.conftest import parts_of
from tests.server.sessions.slow import gates


@asynccontextmanager
async def another_replica(addresses: Any, folder: Any) -> AsyncIterator[Site]:
    settings = Settings(data_dir=folder, log_level="warning", database_pool=2)

    def make(port: int) -> Starlette:
        return create_app(settings.model_copy(update={"port": port}), addresses, found=[slow.FOUND])

    async with listening(make) as site:
        yield site


async def lose(site: Site) -> None:
    """Let a replica look as it does when its process was killed: it says nothing, and its lease runs out."""
    parts = parts_of(site)
    parts.replica._running.cancel()
    parts.reader._running.cancel()
    redis = site.runtime.redis
    await redis.delete(names.replica_key(parts.replica.name))
    await redis.zadd(names.REPLICAS, {parts.replica.name: 1})


def is_lost(message: dict[str, Any]) -> bool:
    return message["error"]["code"] == -32603 and "was lost" in message["error"]["message"]


async def begun(client: McpClient, site: Site, gate: str) -> str:
    """Begin a call and leave; return the event to come back to."""
    async with client.streamed(site, call("step", token="p", gate=gate)) as stream:
        primed = await stream.next()
        await gates[gate].reached.wait()
    return primed.id


async def test_who_comes_back_for_a_lost_call_is_told_so_once(
    a: Site, b: Site, connect, shop: Tenant, mercato_addresses, tmp_path
):
    client = await (await connect()).open(a)
    async with another_replica(mercato_addresses, tmp_path) as victim:
        primed = await begun(client, victim, shop.slug)
        await lose(victim)
        for site in (a, b):
            async with client.listening(site, primed) as stream:
                messages = [event.message for event in await stream.rest() if event.data]
            assert [is_progress(message) for message in messages] == [True, False]
            assert is_lost(messages[-1])
        gates[shop.slug].opened.set()  # it lived after all: its late answer does not count
        with anyio.fail_after(5):
            while parts_of(victim).calls.running:
                await anyio.lowlevel.checkpoint()
        async with client.listening(a, primed) as stream:
            assert len(await stream.rest()) == 2
        assert (await client.call(b, "echo")).status_code == 200


async def test_who_waits_elsewhere_for_a_lost_call_is_told_without_asking(
    a: Site, b: Site, connect, shop: Tenant, bounds, mercato_addresses, tmp_path
):
    client = await (await connect()).open(a)
    async with another_replica(mercato_addresses, tmp_path) as victim:
        primed = await begun(client, victim, shop.slug)
        async with client.listening(b, primed) as stream:
            assert is_progress(await stream.message())
            await lose(victim)
            await beat(a)
            assert is_lost(await stream.message())
            assert await stream.rest() == []
        gates[shop.slug].opened.set()


async def beat(site: Site) -> None:
    parts = parts_of(site)
    keys = [names.replica_key(parts.replica.name), names.REPLICAS]
    await parts.store.run("beat", keys, [parts.replica.name, int(parts.bounds.lease_s * 1_000), names.SHARED])


def is_progress(message: dict[str, Any]) -> bool:
    return message.get("method") == "notifications/progress"


async def test_the_id_of_a_lost_call_is_free_again(a: Site, connect, shop: Tenant, mercato_addresses, tmp_path):
    client = await (await connect()).open(a)
    async with another_replica(mercato_addresses, tmp_path) as victim:
        await begun(client, victim, shop.slug)
        await lose(victim)
        gates[f"{shop.slug}-open"].opened.set()
        answer = await client.post(a, call("step", token="p", gate=f"{shop.slug}-open"))
        gates[shop.slug].opened.set()
    assert '"result"' in answer.text


async def test_a_replica_that_lives_keeps_its_lease(a: Site):
    name = parts_of(a).replica.name
    assert await parts_of(a).replica.is_alive(name)
    assert 0 < await a.runtime.redis.pttl(names.replica_key(name)) <= 15_000
    assert not await parts_of(a).replica.is_alive("never-was")


async def test_a_replica_that_ends_sends_its_listeners_on_and_lets_calls_finish(
    a: Site, connect, shop: Tenant, mercato_addresses, tmp_path
):
    client = await (await connect()).open(a)
    async with (
        another_replica(mercato_addresses, tmp_path) as ending,
        client.listening(ending) as stream,
        client.streamed(ending, call("step", token="p", gate=shop.slug)) as answering,
    ):
        assert is_progress(await answering.message())
        ending.app.state.close_streams()
        parting = await stream.rest()
        refused = await client.at(ending).get("/mcp")
        gates[shop.slug].opened.set()
        answer = (await answering.rest())[-1].message
    assert parting[-1].retry == "1000"  # before it, it may hear that this replica serves other tools
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "result" in answer
    async with client.listening(a) as stream:
        assert stream.response.status_code == 200


async def test_a_call_that_does_not_end_with_its_replica_is_answered_with_an_error(
    a: Site, connect, shop: Tenant, mercato_addresses, tmp_path
):
    client = await (await connect()).open(a)
    async with another_replica(mercato_addresses, tmp_path) as ending:
        parts_of(ending).bounds.ending_s = 0.05
        primed = await begun(client, ending, shop.slug)
    assert gates[shop.slug].cancelled.is_set()
    async with client.listening(a, primed) as stream:
        answer = (await stream.rest())[-1].message
    assert "was stopped" in answer["error"]["message"]
    assert not await a.runtime.redis.hlen(names.part_key(client.session_id, "calls"))


async def test_an_idle_listener_has_no_task_of_its_own(a: Site, connect):
    client = await (await connect()).open(a)
    async with client.listening(a):
        (writer,) = parts_of(a).writers.of_session(client.session_id)
        assert writer._pump is None


async def test_who_was_taken_for_lost_sends_its_client_to_what_the_others_wrote(
    a: Site, b: Site, connect, shop: Tenant, mercato_addresses, tmp_path
):
    client = await (await connect()).open(a)
    async with another_replica(mercato_addresses, tmp_path) as victim:
        async with client.streamed(victim, call("step", token="p", gate=shop.slug)) as stream:
            primed = await stream.next()
            await stream.message()
            await lose(victim)
            session = await parts_of(b).sessions.read(client.session_id)
            await parts_of(b).calls.close_orphans(session, primed.id.partition("_")[0])
            gates[shop.slug].opened.set()
            late = await stream.rest()
        assert late[-1].retry == "1000"
    async with client.listening(b, primed.id) as stream:
        assert is_lost((await stream.rest())[-1].message)


async def test_a_listener_whose_session_is_gone_is_not_kept(a: Site, connect, bounds):
    client = await (await connect()).open(a)
    async with client.listening(a) as stream:
        await a.runtime.redis.delete(names.record_key(client.session_id))  # what its expiry does
        bounds(keepalive_s=0.05, touched_every_s=0)
        await stream.rest()
