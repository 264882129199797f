"""System: the state of the server, and of the tenant on it: configuration, members, audit, plugins, usage."""

from __future__ import annotations

from mercato import Category, hookimpl
from mercato.plugins.system import audit, audit_export, configuration, health, plugins, profile, usage, users
from mercato.plugins.system.category import system

__all__ = ["audit", "audit_export", "configuration", "health", "plugins", "profile", "usage", "users"]


@hookimpl
def register_categories() -> list[Category]:
    """Return the category `system`."""
    return [system]
