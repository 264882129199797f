"""Streams: begun when something is to be sent, resumed from anywhere, and never anybody else's."""

from __future__ import annotations

import anyio
import pytest

from mercato.server.changes import Change
from mercato.server.mcp.sessions import names
from mercato.server.mcp.sessions.store import Away
from mercato.server.mcp.sessions.streams import SessionGone
from mercato.tenancy.keys import list_keys, revoke_key
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import HELLO, Site
from tests.server.sessions.client import call
from tests.server.sessions.conftest import parts_of
from tests.server.sessions.slow import gates


async def test_a_call_that_sends_nothing_is_plain_json_and_leaves_nothing_in_redis(a: Site, connect):
    client = await (await connect()).open(a)
    answer = await client.ask(a, "prompts/list")
    assert answer.headers["content-type"] == "application/json"
    kept = [key.decode() async for key in a.runtime.redis.scan_iter(f"mercato:s:{{{client.session_id}}}*")]
    assert kept == [names.record_key(client.session_id)]


async def test_what_is_sent_during_a_call_comes_on_its_stream_before_the_answer(a: Site, connect, shop: Tenant):
    client = await (await connect()).open(a)
    gates[shop.slug].opened.set()
    async with client.streamed(a, call("step", token="p", gate=shop.slug)) as stream:
        assert stream.response.headers["content-type"] == "text/event-stream"
        assert stream.response.headers["mcp-session-id"] == client.session_id
        primed, *events = await stream.rest()
    assert (primed.data, primed.retry) == ("", "1000")
    name = primed.id.rpartition("_")[0]
    assert [event.id for event in (primed, *events)] == [f"{name}_{number}" for number in (1, 2, 3, 4)]
    assert [event.message["params"]["progress"] for event in events[:2]] == [1, 2]
    assert events[2].message["result"]["structuredContent"] == {"text": f"passed {shop.slug}"}


async def test_an_older_version_gets_no_event_without_data(a: Site, connect):
    client = await (await connect()).open(a, {**HELLO, "protocolVersion": "2025-06-18"})
    async with client.streamed(a, call("log")) as stream:
        assert all(event.data for event in await stream.rest())


async def test_a_stream_goes_on_at_another_replica_after_the_last_event_that_came(
    a: Site, b: Site, connect, shop: Tenant
):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with client.streamed(a, call("step", token="p", gate=shop.slug)) as stream:
        await stream.next()
        first = await stream.next()
    async with client.listening(b, first.id) as stream:  # the client has left, which cancels nothing
        gate.opened.set()
        progress, answer = await stream.rest()
    assert progress.message["params"]["progress"] == 2
    assert answer.message["result"]["structuredContent"] == {"text": f"passed {shop.slug}"}
    assert not gate.cancelled.is_set()


async def test_an_answer_whose_client_was_away_waits_for_it(a: Site, c: Site, connect, shop: Tenant):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with client.streamed(a, call("step", token="p", gate=shop.slug)) as stream:
        primed = await stream.next()
        await stream.next()
    gate.opened.set()
    with anyio.fail_after(5):
        while parts_of(a).calls.running:
            await anyio.lowlevel.checkpoint()
    for after in (primed.id, primed.id):  # as often as it likes
        async with client.listening(c, after) as stream:
            events = await stream.rest()
        assert [event.message.get("id") for event in events] == [None, None, 1]
    async with client.listening(c, events[-1].id) as stream:
        assert await stream.rest() == []


async def test_a_client_that_was_told_to_come_back_gets_the_answer_there(a: Site, b: Site, connect, shop: Tenant):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with client.streamed(a, call("poll", gate=shop.slug)) as stream:
        primed, parting = await stream.rest()
    assert (primed.data, parting.retry) == ("", "1000")
    async with client.listening(b, primed.id) as stream:
        gate.opened.set()
        (answer,) = await stream.rest()
    assert answer.message["result"]["content"][0]["text"] == "polled"


async def test_a_call_that_takes_long_becomes_a_stream_with_comments(a: Site, connect, bounds, shop: Tenant):
    bounds(stream_after_s=0.05, keepalive_s=0.05)
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with client.streamed(a, call("wait", token="p", gate=shop.slug)) as stream:
        assert (await stream.next()).retry == "1000"
        assert (await stream.next()).comment == "keepalive"
        gate.opened.set()
        assert (await stream.message())["id"] == 1


async def test_the_session_s_own_stream_is_kept_alive_too(a: Site, connect, bounds):
    bounds(keepalive_s=0.05)
    client = await (await connect()).open(a)
    async with client.listening(a) as stream:
        assert (await stream.next()).comment == "keepalive"


@pytest.mark.parametrize("after", ["nonsense", "g_1", "0123456789abcdef_1", "g_999999999999999", "../g_1"])
async def test_an_event_that_never_was_is_400(a: Site, connect, after: str):
    client = await (await connect()).open(a)
    response = await client.at(a).get("/mcp", headers={"last-event-id": after})
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32600)


async def test_an_event_of_another_session_is_answered_like_one_that_never_was(
    a: Site, connect, shop: Tenant, other_shop: Tenant
):
    owner = await (await connect()).open(a)
    async with owner.streamed(a, call("log")) as stream:
        event = (await stream.rest())[0].id
    for other in (await connect(shop, owner.key), await connect(), await connect(other_shop)):
        await other.open(a)
        foreign = await other.at(a).get("/mcp", headers={"last-event-id": event})
        unknown = await other.at(a).get("/mcp", headers={"last-event-id": "0123456789abcdef_1"})
        assert (foreign.status_code, foreign.content) == (400, unknown.content)


async def test_the_newest_listener_of_a_session_replaces_the_one_before(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    async with client.listening(a) as older, client.listening(b) as newer:
        assert await older.rest() == []
        async with client.listening(b) as newest:
            assert await newer.rest() == []
            await parts_of(a).streams.append(client.session_id, names.STANDALONE, [b'{"hello":1}'])
            assert await newest.message() == {"hello": 1}


async def test_what_one_replica_sends_is_written_by_the_one_that_has_the_listener(a: Site, b: Site, c: Site, connect):
    client = await (await connect()).open(a)
    async with client.listening(c) as stream:
        for number in range(20):
            site = (a, b, c)[number % 3]
            await parts_of(site).streams.append(client.session_id, names.STANDALONE, [b'{"n":%d}' % number])
        events = [await stream.next() for _ in range(20)]
    assert [event.message["n"] for event in events] == list(range(20))
    async with client.listening(a, events[9].id) as stream:
        assert [(await stream.message())["n"] for _ in range(10)] == list(range(10, 20))


async def test_nothing_is_missed_or_doubled_when_the_reader_s_connection_breaks(a: Site, c: Site, connect):
    client = await (await connect()).open(a)
    reader = parts_of(c).reader
    async with client.listening(c) as stream:
        for number in range(30):
            if number % 10 == 5:
                with anyio.fail_after(5):
                    while not reader.is_connected:
                        await anyio.lowlevel.checkpoint()
                await reader._connection.disconnect(nowait=True)
            await parts_of(a).streams.append(client.session_id, names.STANDALONE, [b'{"n":%d}' % number])
        assert [(await stream.message())["n"] for _ in range(30)] == list(range(30))


async def test_a_stream_of_a_session_that_ended_takes_nothing(a: Site, connect):
    client = await (await connect()).open(a)
    await client.at(a).delete("/mcp")
    with pytest.raises(SessionGone):
        await parts_of(a).streams.append(client.session_id, names.STANDALONE, [b"{}"])
    assert not await a.runtime.redis.exists(names.stream_key(client.session_id, names.STANDALONE))


async def test_a_stream_ends_when_its_key_is_revoked(a: Site, b: Site, connect, shop: Tenant, bounds):
    client = await (await connect()).open(a)
    async with client.listening(b) as stream:
        async with a.runtime.database.tenant(shop.id) as db:
            await revoke_key(db, (await list_keys(db))[0].id)
        await a.runtime.changes.publish(Change("access", shop.id))
        await stream.rest()
    assert (await client.at(b).get("/mcp")).status_code == 401


async def test_a_stream_whose_key_was_revoked_ends_without_being_told(a: Site, connect, shop: Tenant, bounds):
    bounds(keepalive_s=0.05, looked_at_every_s=0)
    client = await (await connect()).open(a)
    async with client.listening(a) as stream:
        async with a.runtime.database.tenant(shop.id) as db:
            await revoke_key(db, (await list_keys(db))[0].id)
        a.runtime.directory._forget(Change("access", shop.id))  # what its age does
        await stream.rest()


async def test_a_client_that_does_not_read_loses_its_connection_and_may_resume(a: Site, b: Site, connect, bounds):
    client = await (await connect()).open(a)
    async with client.streamed(a, call("flood")) as stream:
        primed = await stream.next()
        with anyio.fail_after(20):
            while parts_of(a).writers.find(client.session_id, primed.id.rpartition("_")[0]) is not None:
                await anyio.lowlevel.checkpoint()
    with anyio.fail_after(20):
        while parts_of(a).calls.running:
            await anyio.lowlevel.checkpoint()
    async with client.listening(b, primed.id) as stream:
        messages = [event.message for event in await stream.rest()]
    assert len(messages) == 301
    assert messages[-1]["result"]["content"][0]["text"] == "flooded"


async def test_a_tenant_may_have_so_many_streams_open_and_another_still_opens_one(
    a: Site, connect, bounds, other_shop: Tenant
):
    bounds(most_streams=1)
    first, second, other = await connect(), await connect(), await connect(other_shop)
    for client in (first, second, other):
        await client.open(a)
    async with first.listening(a):
        refused = await second.at(a).get("/mcp")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "2"
        async with other.listening(a) as stream:
            assert stream.response.status_code == 200


async def test_a_get_that_takes_no_events_is_406(a: Site, connect):
    client = await (await connect()).open(a)
    assert (await client.at(a).get("/mcp", headers={"accept": "application/json"})).status_code == 406


async def test_nothing_of_a_session_is_left_when_it_has_ended(a: Site, connect, shop: Tenant):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    await client.post(a, call("log"))
    async with client.listening(a), client.streamed(a, call("step", token="p", gate=shop.slug)) as stream:
        await stream.message()
        await parts_of(a).streams.append(client.session_id, names.STANDALONE, [b"{}"])
        await client.at(a).delete("/mcp")
        with anyio.fail_after(5):
            await gate.cancelled.wait()
            while parts_of(a).calls.running:
                await anyio.lowlevel.checkpoint()
    assert [key async for key in a.runtime.redis.scan_iter(f"mercato:s:{{{client.session_id}}}*")] == []


async def test_a_stream_that_has_ended_is_kept_for_a_while_and_then_unknown(a: Site, connect, bounds):
    bounds(kept_s=30)
    client = await (await connect()).open(a)
    async with client.streamed(a, call("log")) as stream:
        primed = (await stream.rest())[0].id
    key = names.stream_key(client.session_id, primed.partition("_")[0])
    assert 0 < await a.runtime.redis.ttl(key) <= 30
    assert not await a.runtime.redis.hlen(names.part_key(client.session_id, "streams"))
    await a.runtime.redis.delete(key)
    assert (await client.at(a).get("/mcp", headers={"last-event-id": primed})).status_code == 400


async def test_one_message_may_be_long(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    async with client.streamed(a, call("large", token="p")) as stream:
        events = [event for event in await stream.rest() if event.data]
    assert len(events[-1].message["result"]["content"][0]["text"]) == 3_000_000
    async with client.listening(b, events[0].id) as stream:
        (again,) = await stream.rest()
    assert again.data == events[-1].data


async def test_an_answer_reaches_its_client_though_redis_has_forgotten_the_session(a: Site, connect, shop: Tenant):
    client, gate = await (await connect()).open(a), gates[shop.slug]
    async with client.streamed(a, call("step", token="p", gate=shop.slug)) as stream:
        await stream.next()
        await stream.next()
        keys = [key async for key in a.runtime.redis.scan_iter(f"mercato:s:{{{client.session_id}}}*")]
        await a.runtime.redis.delete(*keys)
        gate.opened.set()
        events = await stream.rest()
    assert events[-1].message["result"]["structuredContent"] == {"text": f"passed {shop.slug}"}


async def test_a_redis_that_let_one_wait_in_vain_is_spared_for_a_moment(a: Site, bounds, monkeypatch):
    store = parts_of(a).sessions._store
    bounds(redis_s=0.01)
    with pytest.raises(Away):
        async with store.answering():
            await anyio.sleep_forever()
    with pytest.raises(Away, match="a moment ago"):
        async with store.answering():
            pytest.fail("it was asked")
    monkeypatch.setattr(store, "_away_until", 0.0)
    bounds(redis_s=2)
    async with store.answering() as redis:
        assert await redis.ping()
