"""The section `assistant` of a tenant's configuration: who may set it, and to what."""

from __future__ import annotations

import pytest

from mercato.tenancy.assistant import AssistantSettings, assistant_settings
from mercato.tenancy.memberships import Role, add_member
from mercato.tenancy.principal import READ, WRITE, Principal
from tests.inmemory import client_of, plugin

DEFAULTS = {"surface": "full", "pinned_tools": [], "search_clients": [], "unconfirmed_categories": []}


async def change(client, **settings):
    return await client.call_tool("update_tenant_config", {"section": "assistant", "settings": settings})


async def present(client):
    found = (await client.call_tool("get_tenant_config", {"section": "assistant"})).structured_content
    return found["sections"][0]["settings"]


async def test_it_has_defaults_and_says_what_each_setting_is(mcp):
    found = (await mcp.call_tool("get_tenant_config", {"section": "assistant"})).structured_content
    [section] = found["sections"]
    assert section["settings"] == DEFAULTS
    assert section["keys"]["surface"]["enum"] == ["full", "search"]
    assert all(key["description"] for key in section["keys"].values())


async def test_a_change_holds_from_the_next_request_on_for_this_tenant_alone(runtime, tenant, other_mcp):
    async with client_of(runtime, tenant) as client:
        everything = {tool.name for tool in (await client.list_tools()).tools}
        result = await change(client, surface="search", pinned_tools=["list_orders", "get_tenant_config"])
        assert [one["key"] for one in result.structured_content["changes"]] == ["surface", "pinned_tools"]
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "search_tools",
            "execute_read",
            "execute_write",
            "list_orders",
            "get_tenant_config",
        ]
        back = {"section": "assistant", "settings": {"surface": "full"}}
        await client.call_tool("execute_write", {"name": "update_tenant_config", "arguments": back})
        assert {tool.name for tool in (await client.list_tools()).tools} == everything
        assert (await present(client))["pinned_tools"] == ["list_orders", "get_tenant_config"]
    assert await present(other_mcp) == DEFAULTS


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"surface": "none"}, "surface", "Allowed: full, search."),
        ({"pinned_tools": "list_orders"}, "pinned_tools", "must be a list"),
        ({"pinned_tools": ["list_orders", "lst_orders", "nothing"]}, "pinned_tools", "no tools lst_orders, nothing."),
        ({"pinned_tools": ["lst_orders"]}, "pinned_tools", "Did you mean `list_orders`?"),
        ({"pinned_tools": [7]}, "pinned_tools", "no tools 7."),
        ({"pinned_tools": ["list_orders", "list_orders"]}, "pinned_tools", "list_orders is there more often"),
        ({"search_clients": ["cursor", "cursor"]}, "search_clients", "cursor is there more often"),
        ({"search_clients": [""]}, "search_clients", "at least 1 characters"),
        ({"search_clients": ["x"] * 51}, "search_clients", "at most 50 entries"),
        ({"unconfirmed_categories": ["comerce"]}, "unconfirmed_categories", "Did you mean `commerce`?"),
        ({"unconfirmed_categories": ["xyz"]}, "unconfirmed_categories", "no categories xyz. Nothing was changed."),
    ],
)
async def test_what_does_not_exist_or_is_there_twice_is_refused_by_name(mcp, settings, field, said):
    result = await change(mcp, **settings)
    assert result.is_error
    assert result.meta["mercato/error"]["field"] == f"settings.{field}"
    assert said in result.content[0].text
    assert await present(mcp) == DEFAULTS


@pytest.mark.parametrize("role", [Role.MANAGER, Role.VIEWER])
async def test_only_owners_and_admins_may_change_it(runtime, tenant, role):
    member = await add_member(runtime.database, tenant.id, f"{role}@{tenant.slug}.example", "Alan", role)
    principal = Principal(
        tenant_id=tenant.id,
        user_id=member.user_id,
        role=role,
        scopes=frozenset({READ, WRITE}),
        categories=None,
        kind="key",
    )
    async with client_of(runtime, tenant, principal=principal) as client:
        assert await present(client) == DEFAULTS
        with pytest.raises(Exception, match="There is no tool"):
            await change(client, surface="search")


def test_what_is_stored_and_cannot_be_read_any_more_counts_as_not_set():
    stored = {"surface": "wide", "pinned_tools": ["a", "a"], "search_clients": ["cursor"], "gone": 1}
    assert assistant_settings(stored) == AssistantSettings(search_clients=("cursor",))


async def test_no_plugin_can_have_its_name(open_plugins):
    async with open_plugins(plugin("assistant"), strict=False) as runtime:
        assert list(runtime.plugins.loaded) == []
        assert "is taken" in runtime.plugins.failures[0].reason
