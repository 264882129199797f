"""System: the state of the server, and of the tenant on it: configuration, members, audit, plugins, usage, jobs."""

from __future__ import annotations

from mercato import Category, hookimpl
from mercato.plugins.system import (
    audit,
    audit_export,
    background,
    configuration,
    health,
    job_runs,
    plugins,
    profile,
    usage,
    users,
)
from mercato.plugins.system.category import system

__all__ = [
    "audit",
    "audit_export",
    "background",
    "configuration",
    "health",
    "job_runs",
    "plugins",
    "profile",
    "usage",
    "users",
]


@hookimpl
def register_categories() -> list[Category]:
    """Return the category `system`."""
    return [system]
