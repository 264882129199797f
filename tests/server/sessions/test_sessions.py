"""Sessions: begun at one replica, good at all, gone everywhere at once."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from mercato.server.mcp.sessions import names
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import HELLO, Site
from tests.server.sessions.client import call, request
from tests.server.sessions.conftest import parts_of
from tests.server.sessions.slow import gates

MINUTE_S = 60


async def test_a_session_that_began_at_one_replica_is_served_by_another(a: Site, b: Site, connect):
    client = await connect()
    hello = (await client.initialize(a)).json()["result"]
    await client.notify(b, "notifications/initialized")
    answer = await client.call(b, "echo", text="hi")
    assert hello["protocolVersion"] == "2025-11-25"
    assert len(client.session_id) == 43
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["result"]["structuredContent"]["text"].endswith(": hi")


async def test_initialize_says_truly_what_is_told_of_later(a: Site, connect):
    capabilities = (await (await connect()).initialize(a)).json()["result"]["capabilities"]
    assert capabilities["tools"] == {"listChanged": True}
    assert capabilities["prompts"] == {"listChanged": True}
    assert capabilities["resources"] == {"subscribe": True, "listChanged": True}
    assert "logging" in capabilities


@pytest.mark.parametrize("asked", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_version_of_the_handshake_decides_and_not_the_header(a: Site, b: Site, connect, asked: str):
    client = await connect()
    hello = (await client.initialize(a, {**HELLO, "protocolVersion": asked})).json()["result"]
    for header in ("2025-11-25", "2025-03-26"):
        answer = await client.at(b).post("/mcp", json=call("log"), headers={"mcp-protocol-version": header})
        assert ("retry: " in answer.text) == (asked == "2025-11-25")  # the first version whose streams are primed
    assert hello["protocolVersion"] == asked


async def test_a_version_that_nobody_speaks_is_400(a: Site, connect):
    client = await (await connect()).open(a)
    headers = {"mcp-protocol-version": "1999-01-01"}
    assert (await client.at(a).post("/mcp", json=call("echo"), headers=headers)).status_code == 400
    assert (await client.at(a).get("/mcp", headers=headers)).status_code == 400
    assert (await client.at(a).delete("/mcp", headers=headers)).status_code == 400
    assert (await client.at(a).get("/mcp", headers={"mcp-protocol-version": "2026-07-28"})).status_code == 405


async def test_without_a_session_id_everything_but_initialize_is_400(a: Site, connect):
    client = await connect()
    for response in (
        await client.ask(a, "ping"),
        await client.notify(a, "notifications/initialized"),
        await client.at(a).get("/mcp"),
        await client.at(a).delete("/mcp"),
    ):
        assert response.status_code == 400
        assert "Mcp-Session-Id" in response.json()["error"]["message"]


@pytest.mark.parametrize("unknown", ["nonsense", "A" * 43, "x" * 5_000, "{g}"])
async def test_an_unknown_session_is_404_whatever_is_asked_of_it(a: Site, connect, unknown: str):
    client = await connect()
    client.session_id = unknown
    assert {await _status(client, a, what) for what in ("post", "note", "answer", "get", "delete")} == {404}


async def test_a_session_of_another_tenant_or_credential_is_as_unknown_as_one_that_never_was(
    a: Site, b: Site, connect, other_shop: Tenant
):
    owner, colleague, stranger = await connect(), await connect(), await connect(other_shop)
    await owner.open(a)
    await owner.call(b, "echo")  # both replicas know it from memory
    never = await connect()
    never.session_id = "A" * 43
    expected = (await never.call(a, "echo")).content
    for other in (colleague, stranger):
        other.session_id = owner.session_id
        for site in (a, b):
            assert (await other.call(site, "echo")).content == expected
            assert {await _status(other, site, what) for what in ("post", "note", "get", "delete")} == {404}
    assert (await owner.call(b, "echo")).status_code == 200


async def test_delete_ends_a_session_at_once_at_every_replica(a: Site, b: Site, c: Site, connect, shop: Tenant):
    client = await (await connect()).open(a)
    assert [(await client.call(site, "echo")).status_code for site in (a, b, c)] == [200, 200, 200]
    assert (await client.at(b).delete("/mcp")).status_code == 200
    with anyio.fail_after(1):
        while {(await client.call(site, "echo")).status_code for site in (a, b, c)} != {404}:
            pass
    left = [key async for key in a.runtime.redis.scan_iter(f"mercato:s:{{{client.session_id}}}*")]
    assert left == []
    assert await a.runtime.redis.zscore(names.tenant_key(shop.id), client.session_id) is None


async def test_delete_cancels_what_runs_elsewhere_and_ends_its_streams(a: Site, b: Site, connect, shop: Tenant):
    client = await (await connect()).open(a)
    gate = gates[f"delete-{shop.slug}"]
    async with client.listening(b) as stream, client.streamed(a, call("step", token="p", gate=f"delete-{shop.slug}")):
        await gate.reached.wait()
        await client.at(b).delete("/mcp")
        with anyio.fail_after(5):
            await gate.cancelled.wait()
            await stream.rest()


async def test_a_known_session_needs_no_redis_for_a_call_that_sends_nothing(a: Site, connect, monkeypatch):
    client = await (await connect()).open(a)
    await client.call(a, "echo")
    await _take_redis_away(a, monkeypatch)
    answer = await client.call(a, "echo", text="still here")
    longer = await client.post(
        a, request("tools/list", {"_meta": {"traceparent": "00-0-0-00"}})
    )  # not in the fast lane
    assert answer.json()["result"]["structuredContent"]["text"].endswith("still here")
    assert "result" in longer.json()


async def test_without_redis_a_new_or_unknown_session_is_503_and_says_when_to_come_back(
    a: Site, b: Site, connect, monkeypatch
):
    client = await (await connect()).open(b)
    await _take_redis_away(a, monkeypatch)
    for response in (await client.ask(a, "ping", request_id=7), await client.at(a).get("/mcp")):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "2"
    begun = await (await connect()).initialize(a)
    assert begun.status_code == 503
    assert begun.json()["error"]["code"] == -32603
    assert (await client.ask(a, "ping", request_id=7)).json()["id"] == 7


async def test_a_session_is_touched_now_and_then_and_not_at_each_request(a: Site, connect, bounds):
    client = await (await connect()).open(a)
    key, redis = names.record_key(client.session_id), a.runtime.redis
    await redis.expire(key, 30)
    await client.call(a, "echo")
    assert await redis.ttl(key) <= 30
    bounds(touched_every_s=0)
    await client.call(a, "echo")
    with anyio.fail_after(5):
        while await redis.ttl(key) <= 30:
            await anyio.lowlevel.checkpoint()


async def test_a_session_that_nobody_used_is_gone(a: Site, connect, bounds):
    client = await (await connect()).open(a)
    await a.runtime.redis.delete(names.record_key(client.session_id))  # what its expiry does
    bounds(cached_s=0)
    assert (await client.call(a, "echo")).status_code == 404


async def test_the_idlest_session_makes_room_where_a_tenant_has_too_many(a: Site, b: Site, connect, bounds):
    bounds(most_sessions=2, idlest_s=0)
    first, second, third = await connect(), await connect(), await connect()
    for client, site in ((first, a), (second, b), (third, a)):
        await client.open(site)
    statuses = [(await client.call(b, "echo")).status_code for client in (first, second, third)]
    assert statuses == [404, 200, 200]


async def test_where_no_session_is_idle_a_new_one_has_to_wait(a: Site, connect, bounds, other_shop: Tenant):
    bounds(most_sessions=1)
    await (await connect()).open(a)
    refused = await (await connect()).initialize(a)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert (await (await connect(other_shop)).initialize(a)).status_code == 200


async def test_a_failed_handshake_begins_no_session(a: Site, connect):
    client = await connect()
    response = await client.initialize(a, {"protocolVersion": 5})
    assert response.json()["error"]["code"] == -32602
    assert "mcp-session-id" not in response.headers


async def test_what_was_subscribed_to_and_which_level_was_set_is_known_at_every_replica(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    assert (await client.ask(a, "logging/setLevel", {"level": "error"})).json()["result"] == {}
    assert (await client.ask(b, "resources/subscribe", {"uri": "slow://thing"})).json()["result"] == {}
    for site in (a, b):
        session = await parts_of(site).sessions.read(client.session_id)
        assert (session.level, session.uris, session.initialized) == ("error", {"slow://thing"}, True)
    await client.ask(a, "resources/unsubscribe", {"uri": "slow://thing"})
    session = await parts_of(b).sessions.read(client.session_id)
    assert session.uris == frozenset()


async def test_a_session_can_subscribe_to_so_many_resources_and_no_more(a: Site, connect, bounds):
    bounds(most_subscriptions=0)
    client = await (await connect()).open(a)
    statuses = [(await client.ask(a, "resources/subscribe", {"uri": "slow://thing"})).json()]
    async with a.runtime.redis.pipeline() as pipe:
        for number in range(20):
            pipe.hset(names.record_key(client.session_id), f"uri:slow://{number}", "1")
        await pipe.execute()
    await client.ask(a, "resources/unsubscribe", {"uri": "slow://thing"})
    statuses.append((await client.ask(a, "resources/subscribe", {"uri": "slow://thing"})).json())
    assert "subscribe to 0 resources" in statuses[-1]["error"]["message"]


async def test_log_messages_below_the_level_of_the_session_are_not_sent(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    await client.ask(b, "logging/setLevel", {"level": "info"})
    async with client.streamed(a, call("log")) as stream:
        events = [event.message for event in await stream.rest() if event.data]
    levels = [message["params"]["level"] for message in events if "method" in message]
    assert levels == ["info", "error"]


async def _status(client: Any, site: Site, what: str) -> int:
    if what == "get":
        return (await client.at(site).get("/mcp")).status_code
    if what == "delete":
        return (await client.at(site).delete("/mcp")).status_code
    bodies = {
        "post": request("ping"),
        "note": {"jsonrpc": "2.0", "method": "notifications/initialized"},
        "answer": {"jsonrpc": "2.0", "id": "x", "result": {}},
    }
    response: httpx.Response = await client.post(site, bodies[what])
    return response.status_code


async def _take_redis_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(site.runtime.redis, "execute_command", refuse)
    monkeypatch.setattr(site.runtime.redis, "pipeline", lambda **_: _Away())


class _Away:
    async def __aenter__(self) -> None:
        raise ConnectionRefusedError

    async def __aexit__(self, *_: object) -> None:
        return None
