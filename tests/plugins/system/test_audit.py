from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from mcp.shared.exceptions import MCPError

from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.audit_erasure import erase
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.onboarding import local_principal

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
async def history(database, tenant):
    """Six entries of `tenant`, an hour apart, by Grace and Alan in turn; every third cancels. Gives the users' ids."""
    users = [
        (await add_member(database, tenant.id, f"{name}@{tenant.slug}.example", name, Role.ADMIN)).user_id
        for name in ("grace", "alan")
    ]
    async with database.tenant(tenant.id) as db:
        for hour in range(6):
            db.session.add(
                AuditEntry(
                    at=NOON + timedelta(hours=hour),
                    user_id=users[hour % 2],
                    kind="key",
                    action="cancel_order" if hour % 3 == 0 else "update_order",
                    arguments={"order_id": hour},
                    effect={"status": "done"},
                )
            )
            await db.session.flush()
    return users


async def _orders(mcp, **arguments):
    found = (await mcp.call_tool("get_audit_log", {"limit": 25, **arguments})).structured_content
    assert found["total_count"] == len(found["entries"])
    return [entry["arguments"]["order_id"] for entry in found["entries"] if "order_id" in entry["arguments"]]


async def test_entries_come_newest_first_with_who_and_what(mcp, history):
    newest = (await mcp.call_tool("get_audit_log", {"action": "update_order"})).structured_content["entries"][0]
    assert newest["user_id"] == history[1]
    assert newest["user"] == "alan"
    assert newest["arguments"] == {"order_id": 5}
    assert newest["effect"] is None
    assert newest["at"] == "2026-01-31T17:00:00Z"


async def test_full_detail_adds_the_effect(mcp, history):
    arguments = {"action": "update_order", "detail": "full"}
    assert (await mcp.call_tool("get_audit_log", arguments)).structured_content["entries"][0]["effect"] == {
        "status": "done"
    }


async def test_times_are_told_in_the_zone_of_the_tenant_too(mcp, history):
    await mcp.call_tool("update_tenant_config", {"section": "profile", "settings": {"timezone": "Asia/Tokyo"}})
    found = (await mcp.call_tool("get_audit_log", {"action": "update_order"})).structured_content
    assert found["timezone"] == "Asia/Tokyo"
    assert found["entries"][0]["at_local"] == "2026-02-01T02:00:00+09:00"


async def test_every_combination_of_filters_holds(mcp, history):
    grace, alan = history
    since, until = "2026-01-31T13:00:00Z", "2026-01-31T17:00:00Z"
    assert await _orders(mcp, user_id=grace) == [4, 2, 0]
    assert await _orders(mcp, action="cancel_order") == [3, 0]
    assert await _orders(mcp, since=since, until=until) == [4, 3, 2, 1]
    assert await _orders(mcp, until=until, action="cancel_order") == [3, 0]
    assert await _orders(mcp, user_id=alan, since=since) == [5, 3, 1]
    assert await _orders(mcp, user_id=alan, action="update_order", since=since, until=until) == [1]
    assert await _orders(mcp, user_id=grace, action="cancel_order", since=since) == []


async def test_an_offset_in_a_time_counts(mcp, history):
    assert await _orders(mcp, since="2026-01-31T18:00:00+01:00") == [5]


async def test_a_time_without_offset_is_refused(mcp):
    result = await mcp.call_tool("get_audit_log", {"since": "2026-01-31T12:00:00"})
    assert result.is_error
    assert "`since` must name its offset" in result.content[0].text


async def test_a_time_at_the_end_of_the_calendar_is_no_fault(mcp):
    for name, value in {"since": "0001-01-01T00:00:00+14:00", "until": "9999-12-31T23:59:59-14:00"}.items():
        result = await mcp.call_tool("get_audit_log", {name: value})
        assert result.meta["mercato/error"]["field"] == name


async def test_a_span_that_ends_before_it_begins_is_refused(mcp):
    result = await mcp.call_tool("get_audit_log", {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"})
    assert result.meta["mercato/error"]["field"] == "until"


async def test_pages_show_every_entry_once_though_new_ones_come(mcp, history):
    seen, cursor = [], None
    while True:
        arguments = {"limit": 2, "action": "update_order", **({"cursor": cursor} if cursor else {})}
        page = (await mcp.call_tool("get_audit_log", arguments)).structured_content
        seen += [entry["arguments"]["order_id"] for entry in page["entries"]]
        assert page["total_count"] == 4
        await mcp.call_tool("update_tenant_config", {"section": "profile", "settings": {"name": f"Acme {len(seen)}"}})
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [5, 4, 2, 1]


async def test_an_entry_that_was_erased_says_so(mcp, runtime, tenant, history):
    principal = await local_principal(runtime.database, tenant)
    await erase(runtime.database, AuditSigner(runtime.ring), principal, user_id=history[1])
    arguments = {"action": "update_order", "detail": "full"}
    newest, older, *_ = (await mcp.call_tool("get_audit_log", arguments)).structured_content["entries"]
    assert (newest["user"], newest["arguments"], newest["effect"]) == ("alan", {}, {})
    assert newest["erased_at"] is not None
    assert (older["user"], older["arguments"], older["erased_at"]) == ("grace", {"order_id": 4}, None)


async def test_a_cursor_of_another_list_is_refused(mcp, history):
    users = (await mcp.call_tool("list_users", {"limit": 1})).structured_content
    result = await mcp.call_tool("get_audit_log", {"cursor": users["next_cursor"]})
    assert result.meta["mercato/error"]["field"] == "cursor"


async def test_nothing_of_another_tenant_is_shown(mcp, other_mcp, history):
    assert await _orders(other_mcp) == []
    assert await _orders(other_mcp, user_id=history[0]) == []
    page = (await mcp.call_tool("get_audit_log", {"limit": 1})).structured_content
    assert await _orders(other_mcp, cursor=page["next_cursor"]) == []


@pytest.mark.parametrize("role", [Role.MANAGER, Role.MEMBER, Role.VIEWER])
async def test_the_log_does_not_exist_for_those_who_do_not_administer(client_as, role):
    async with client_as(role) as client:
        assert "get_audit_log" not in {tool.name for tool in (await client.list_tools()).tools}
        with pytest.raises(MCPError) as refusal:
            await client.call_tool("get_audit_log", {})
    assert refusal.value.error.code == -32602


async def test_an_admin_may_read_it(client_as, history):
    async with client_as(Role.ADMIN) as admin:
        assert await _orders(admin, action="cancel_order") == [3, 0]
