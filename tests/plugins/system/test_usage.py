from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from mcp.shared.exceptions import MCPError

from mercato import admin
from mercato.server.usage import AdmissionCounter
from mercato.tenancy.memberships import Role
from mercato.tenancy.usage import UsageWriter, Used

JANUARY = {"date_from": "2026-01-01", "date_to": "2026-01-31"}


def _used(tenant, at, tool="get_order", **fields):
    values = {
        "user_id": None,
        "kind": "key",
        "credential_id": 1,
        "client_id": "key:1",
        "session_id": None,
        "request_id": "request-1",
        "category": "commerce",
        "outcome": "ok",
        "duration_us": 1_234,
        "request_bytes": 39,
        "answer_bytes": 390,
    }
    return Used(at=at, tenant_id=tenant.id, tool=tool, **(values | fields))


@pytest.fixture
async def january(database, tenant):
    """Twelve tools, called one to twelve times on the tenth of January; one call of the last failed."""
    at = datetime(2026, 1, 10, tzinfo=UTC).timestamp()
    calls = [_used(tenant, at, f"tool_{count:02}") for count in range(1, 13) for _ in range(count)]
    calls[-1] = calls[-1]._replace(outcome="timed_out", cost_cents=7)
    await UsageWriter(database).write(1, calls)


async def _usage(mcp, **arguments):
    return (await mcp.call_tool("get_usage", arguments)).structured_content


async def test_the_most_called_come_first_with_what_all_came_to(mcp, january):
    found = await _usage(mcp, **JANUARY, limit=2)
    assert [(group["key"], group["calls"], group["errors"]) for group in found["groups"]] == [
        ("tool_12", 12, 1),
        ("tool_11", 11, 0),
    ]
    assert found["total"] == {
        "calls": 78,
        "errors": 1,
        "mean_ms": 1.2,
        "p95_ms": 1.2,
        "request_bytes": 78 * 39,
        "answer_bytes": 78 * 390,
        "request_tokens": 780,
        "answer_tokens": 7_800,
        "cost_cents": 7,
    }


async def test_pages_show_every_group_once(mcp, january):
    seen, cursor = [], None
    while True:
        page = await _usage(mcp, **JANUARY, limit=5, **({"cursor": cursor} if cursor else {}))
        seen += [group["calls"] for group in page["groups"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == list(range(12, 0, -1))


async def test_a_cursor_of_other_days_or_another_grouping_is_refused(mcp, january):
    cursor = (await _usage(mcp, **JANUARY, limit=1))["next_cursor"]
    for other in ({**JANUARY, "by": "day"}, {**JANUARY, "date_to": "2026-01-30"}):
        result = await mcp.call_tool("get_usage", {**other, "cursor": cursor})
        assert result.meta["mercato/error"]["field"] == "cursor"


async def test_calls_are_seen_by_day_and_client_and_nobody_is_null(mcp, january):
    assert [group["key"] for group in (await _usage(mcp, **JANUARY, by="day"))["groups"]] == ["2026-01-10"]
    assert [group["key"] for group in (await _usage(mcp, **JANUARY, by="client"))["groups"]] == ["key:1"]
    [nobody] = (await _usage(mcp, **JANUARY, by="user"))["groups"]
    assert (nobody["key"], nobody["name"], nobody["calls"]) == (None, None, 78)


async def test_without_days_it_is_the_last_thirty(mcp, database, tenant):
    now = datetime.now(UTC)
    await UsageWriter(database).write(1, [_used(tenant, now.timestamp() - days * 86_400) for days in (0, 29, 30)])
    found = await _usage(mcp, by="day")
    assert date.fromisoformat(found["date_to"]) - date.fromisoformat(found["date_from"]) == timedelta(days=29)
    recent = {group["key"] for group in found["groups"]}
    assert {str((now - timedelta(days=days)).date()) for days in (0, 29)} <= recent
    assert str((now - timedelta(days=30)).date()) not in recent


async def test_what_was_let_in_and_is_not_recorded_is_told(ctx, mcp, runtime, mercato_addresses, tenant, database):
    today = datetime.now(UTC).date()
    before = await admin.count_admissions(ctx, admin.Days(today, today))
    counter = AdmissionCounter(runtime.redis, mercato_addresses.redis_url)
    for at in [counter.count(tenant.id) for _ in range(5)][:3]:
        await UsageWriter(database).write(1, [_used(tenant, at)])
    await counter.stop()
    found = await _usage(mcp, date_from=str(today), date_to=str(today), by="day")
    assert found["admitted_calls"] - before >= 5
    assert found["unrecorded_calls"] >= 2
    assert await admin.count_admissions(ctx, admin.Days(date(2026, 1, 1), date(2026, 1, 2))) == 0


async def test_that_the_count_is_not_known_is_told_while_redis_is_away(mcp, runtime, january, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.setattr(runtime.redis, "pipeline", refuse)
    found = await _usage(mcp, **JANUARY)
    assert (found["admitted_calls"], found["unrecorded_calls"], found["total"]["calls"]) == (None, None, 78)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"date_from": "2026-02-01", "date_to": "2026-01-31"}, "date_to"),
        ({"date_from": "2024-01-01", "date_to": "2026-01-01"}, "date_from"),
        ({"by": "moon"}, "by"),
        ({"date_to": "yesterday"}, "date_to"),
    ],
)
async def test_what_cannot_be_seen_is_refused_with_its_field(mcp, arguments, field):
    result = await mcp.call_tool("get_usage", arguments)
    assert result.meta["mercato/error"]["field"] == field


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
async def test_the_ends_of_the_calendar_are_no_fault(mcp, day):
    assert (await _usage(mcp, date_to=day))["total"]["calls"] == 0
    assert (await _usage(mcp, date_from=day, date_to=day))["total"]["calls"] == 0


async def test_nothing_of_another_tenant_is_shown(other_mcp, january):
    assert (await _usage(other_mcp, **JANUARY))["groups"] == []
    assert (await _usage(other_mcp, **JANUARY))["total"]["calls"] == 0


@pytest.mark.parametrize("role", [Role.MANAGER, Role.MEMBER, Role.VIEWER])
async def test_it_does_not_exist_for_those_who_do_not_administer(client_as, role):
    async with client_as(role) as client:
        with pytest.raises(MCPError) as refusal:
            await client.call_tool("get_usage", {})
    assert refusal.value.error.code == -32602
