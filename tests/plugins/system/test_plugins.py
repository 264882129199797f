from __future__ import annotations

import pytest

from mercato.tenancy.memberships import Role
from tests.inmemory import client_of, plugin


@pytest.fixture
async def broken(open_bakery, new_tenant):
    """A runtime in which one plugin could not be taken, and a tenant of it."""
    async with open_bakery(plugin("broken", register_categories="none"), strict=False) as runtime:
        yield runtime, await new_tenant(runtime)


async def test_plugins_that_serve_are_listed_with_what_they_bring(mcp, runtime):
    found = (await mcp.call_tool("list_plugins", {})).structured_content
    assert found["total_count"] == len(runtime.plugins.loaded)
    by_name = {one["name"]: one for one in found["plugins"]}
    assert by_name["system"] == {
        "name": "system",
        "status": "loaded",
        "origin": "built in",
        "version": runtime.plugins.loaded["system"].version,
        "categories": ["system"],
        "tool_count": 18,
        "stage": None,
        "reason": None,
    }


async def test_plugins_that_failed_are_listed_with_stage_and_reason(broken):
    async with client_of(*broken) as client:
        found = (await client.call_tool("list_plugins", {})).structured_content
        details = (await client.call_tool("get_system_health", {"include_details": True})).structured_content["details"]
    [disabled] = [one for one in found["plugins"] if one["status"] == "disabled"]
    assert (disabled["name"], disabled["stage"]) == ("broken", "collect")
    assert "register_categories must return a list" in disabled["reason"]
    assert (details["plugins_loaded"], details["plugins_disabled"]) == (2, 1)


async def test_a_reason_is_for_owners_and_admins_only(broken, client_as):
    async with client_as(Role.MEMBER, of=broken) as member:
        found = (await member.call_tool("list_plugins", {})).structured_content
    [disabled] = [one for one in found["plugins"] if one["status"] == "disabled"]
    assert (disabled["stage"], disabled["reason"]) == ("collect", None)
