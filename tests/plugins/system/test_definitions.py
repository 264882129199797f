from __future__ import annotations

import pytest

from mercato.plugins.system import system

NAMES = {
    "cancel_job",
    "export_audit_log",
    "get_audit_log",
    "get_job_categories",
    "get_job_event_schema",
    "get_job_queue_status",
    "get_service_status",
    "get_system_health",
    "get_tenant_config",
    "get_usage",
    "get_user",
    "list_job_events",
    "list_jobs",
    "list_plugins",
    "list_users",
    "retry_job",
    "update_tenant_config",
    "validate_job_payload",
}


def test_the_category_has_these_tools():
    assert {tool.name for tool in system.tools} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_tool_goes_over_the_wire_as_it_always_has(assert_tool_snapshot, name):
    assert_tool_snapshot(name)


def test_only_what_administers_is_for_admins_and_only_it_writes():
    assert {tool.name for tool in system.tools if tool.admin} == {
        "cancel_job",
        "export_audit_log",
        "get_audit_log",
        "get_usage",
        "list_jobs",
        "retry_job",
        "update_tenant_config",
    }
    assert {tool.name for tool in system.tools if not tool.read_only} == {
        "cancel_job",
        "export_audit_log",
        "retry_job",
        "update_tenant_config",
    }
