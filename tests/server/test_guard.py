"""The Guard over the wire: one decision and one record for each call, whichever way it comes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import select

from mercato.server.changes import Change
from mercato.server.usage import admitted_on
from mercato.tenancy.limits import set_limit
from mercato.tenancy.rows import utc_now
from mercato.tenancy.usage import UsageRecord
from tests.inmemory import client_of
from tests.server.conftest import Site, envelope, modern, shake_hands

MODERN_CALL = {"name": "echo", "arguments": {"text": "hello"}}


@pytest.fixture
async def limited(site: Site, acme: Any):
    """Set limits of Acme, by name."""

    async def set_them(**limits: int) -> None:
        for name, most in limits.items():
            await set_limit(site.runtime.database, acme.id, name, most)
        await site.runtime.changes.publish(Change("access", acme.id))

    return set_them


@pytest.fixture
async def recorded(site: Site, acme: Any):
    """What the ledger has of Acme, and how many calls were admitted."""

    async def read() -> tuple[list[Any], int]:
        await site.runtime.usage.flush()
        site.runtime.usage.push()
        columns = (UsageRecord.tool, UsageRecord.outcome, UsageRecord.session_id, UsageRecord.cost_cents)
        async with site.runtime.database.tenant(acme.id, read_only=True) as db:
            rows = list(await db.rows(select(*columns).order_by(UsageRecord.id)))
        await site.runtime.usage._admissions.confirm()
        admitted = await admitted_on(site.runtime.redis, acme.id, [utc_now().date()])
        return rows, sum(admitted.values())

    return read


async def handshake_call(client: Any, session: str, name: str = "echo", arguments: dict[str, Any] | None = None) -> Any:
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": arguments or {}}}
    return await client.post("/mcp", json=body, headers={"mcp-session-id": session})


async def test_over_the_limit_a_modern_call_is_429_with_its_id_and_the_time_to_wait(site, acme, limited, recorded):
    async with site.client(await site.key(acme)) as client:
        await limited(tenant=2)
        answers = [await modern(client, "tools/call", MODERN_CALL) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    error = answers[2].json()["error"]
    assert answers[2].json()["id"] == 1
    assert error["data"]["limit"] == "tenant"
    assert error["data"]["whose"] == "this tenant"
    assert error["data"]["retryable"] is True
    assert 1 <= error["data"]["retry_after_s"] <= 61  # what is a second old still counts
    assert answers[2].headers["retry-after"] == str(error["data"]["retry_after_s"])
    assert "Wait" in error["message"]
    rows, admitted = await recorded()
    assert len(rows) == admitted == 2


async def test_over_the_limit_a_call_in_a_session_is_429_as_well(site, acme, limited):
    async with site.client(await site.key(acme)) as client:
        session = await shake_hands(client)
        await limited(tenant=1)
        answers = [await handshake_call(client, session) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["id"] == 7
    assert answers[1].json()["error"]["data"]["limit"] == "tenant"


async def test_both_eras_and_all_keys_share_the_tenants_limit(site, acme, limited):
    async with site.client(await site.key(acme)) as one, site.client(await site.key(acme)) as other:
        session = await shake_hands(other)
        await limited(tenant=2)
        assert (await modern(one, "tools/call", MODERN_CALL)).status_code == 200
        assert (await handshake_call(other, session)).status_code == 200
        assert (await modern(one, "tools/call", MODERN_CALL)).status_code == 429
        assert (await handshake_call(other, session)).status_code == 429


async def test_one_key_that_uses_up_its_own_limit_leaves_the_others_theirs(site, acme, limited):
    async with site.client(await site.key(acme)) as one, site.client(await site.key(acme)) as other:
        await limited(caller=1)
        assert (await modern(one, "tools/call", MODERN_CALL)).status_code == 200
        refused = await modern(one, "tools/call", MODERN_CALL)
        assert (refused.status_code, refused.json()["error"]["data"]["limit"]) == (429, "caller")
        assert (await modern(other, "tools/call", MODERN_CALL)).status_code == 200


async def test_a_tools_tier_limits_that_tool_alone(site, acme, limited):
    async with site.client(await site.key(acme)) as client:
        await limited(write=1)
        assert (await modern(client, "tools/call", {"name": "change", "arguments": {}})).status_code == 200
        refused = await modern(client, "tools/call", {"name": "change", "arguments": {}})
        assert (refused.status_code, refused.json()["error"]["data"]["limit"]) == (429, "write")
        assert (await modern(client, "tools/call", MODERN_CALL)).status_code == 200


async def test_another_tenant_is_not_limited_by_it(site, acme, other_tenant, limited):
    from mercato.tenancy.grants import enable_category

    async with site.runtime.database.tenant(other_tenant.id) as db:
        await enable_category(db, "probe")
    async with site.client(await site.key(acme)) as mine, site.client(await site.key(other_tenant)) as theirs:
        await limited(tenant=1)
        await modern(mine, "tools/call", MODERN_CALL)
        assert (await modern(mine, "tools/call", MODERN_CALL)).status_code == 429
        assert (await modern(theirs, "tools/call", MODERN_CALL)).status_code == 200


async def test_lists_are_free_but_bounded(site, acme, limited, recorded):
    async with site.client(await site.key(acme)) as client:
        await limited(tenant=1, lists=2)
        statuses = [(await modern(client, "tools/list")).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await modern(client, "tools/call", MODERN_CALL)).status_code == 200
    rows, admitted = await recorded()
    assert (len(rows), admitted) == (1, 1)


async def test_what_may_not_be_called_takes_nothing(site, acme, limited):
    async with site.client(await site.key(acme)) as client:
        await limited(tenant=1)
        for name in ("no_such_tool", "count_shop"):
            await modern(client, "tools/call", {"name": name, "arguments": {}})
        assert (await modern(client, "tools/call", MODERN_CALL)).status_code == 200


async def test_in_a_terminal_a_limit_is_a_result_that_the_model_reads(runtime, tenant):
    await set_limit(runtime.database, tenant.id, "tenant", 1)
    await runtime.changes.publish(Change("access", tenant.id))
    async with client_of(runtime, tenant) as client:
        first = await client.call_tool("get_tenant_config")
        second = await client.call_tool("get_tenant_config")
    assert not first.is_error
    assert second.is_error
    assert "is reached" in second.content[0].text
    assert second.meta["mercato/error"]["code"] == "limit_reached"
    assert second.meta["mercato/error"]["retry_after_s"] >= 1


async def test_every_admitted_call_has_one_record_however_it_ends(site, acme, recorded):
    async with site.client(await site.key(acme)) as client:
        session = await shake_hands(client)
        for name in ("echo", "refuse", "break_down", "change", "no_such_tool"):
            await modern(client, "tools/call", {"name": name, "arguments": {}})
            await handshake_call(client, session, name)
        await modern(client, "tools/call", {"name": "echo", "arguments": {"text": 7}})
        body, headers = envelope("tools/call", MODERN_CALL)
        await client.post("/mcp", json=body, headers={**headers, "mcp-name": "another"})  # refused by the protocol
    rows, admitted = await recorded()
    assert admitted == len(rows) == 9
    ended = sorted((row.tool, row.outcome) for row in rows)
    assert ended == sorted(
        [("echo", "ok"), ("refuse", "error"), ("break_down", "internal_fault"), ("change", "ok")] * 2
        + [("echo", "invalid_arguments")]
    )
    assert {row.session_id for row in rows} == {None, session}


async def test_money_is_taken_from_the_budget_of_the_day_and_shown_with_the_call(site, acme, limited, recorded):
    async with site.client(await site.key(acme)) as client:
        await limited(cents_per_day=10)
        answers = [
            (await modern(client, "tools/call", {"name": "pay", "arguments": {"cents": 4}})).json() for _ in range(3)
        ]
    results = [answer["result"] for answer in answers]
    assert [result.get("isError", False) for result in results] == [False, False, True]
    assert results[2]["_meta"]["mercato/error"]["limit"] == "cents_per_day"
    assert 1 <= results[2]["_meta"]["mercato/error"]["retry_after_s"] <= 86_400
    rows, _ = await recorded()
    assert [row.cost_cents for row in rows] == [4, 4, 0]


async def test_readiness_says_who_counts(site):
    async with site.client(None) as client:
        assert (await client.get("/readyz")).json()["limits"] == "shared"
