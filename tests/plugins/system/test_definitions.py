from __future__ import annotations

import pytest

from mercato.plugins.system import system

NAMES = {
    "export_audit_log",
    "get_audit_log",
    "get_service_status",
    "get_system_health",
    "get_tenant_config",
    "get_usage",
    "get_user",
    "list_plugins",
    "list_users",
    "update_tenant_config",
}


def test_the_category_has_these_tools():
    assert {tool.name for tool in system.tools} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_tool_goes_over_the_wire_as_it_always_has(assert_tool_snapshot, name):
    assert_tool_snapshot(name)


def test_only_what_administers_is_for_admins_and_only_it_writes():
    assert {tool.name for tool in system.tools if tool.admin} == {
        "export_audit_log",
        "get_audit_log",
        "get_usage",
        "update_tenant_config",
    }
    assert {tool.name for tool in system.tools if not tool.read_only} == {"export_audit_log", "update_tenant_config"}
