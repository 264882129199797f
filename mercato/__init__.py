"""mercato: an MCP server for commerce. This module is the whole API that plugins are written against.

Names are loaded at first use, so that the command line can start the engines before the heavy imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercato.migrations.protect import protect_tenant_rows
    from mercato.plugins.category import Category
    from mercato.plugins.events import Event, TenantEvent
    from mercato.plugins.hookspecs import hookimpl
    from mercato.plugins.importers import ImportContext, Importer, ImportRefused, ImportReport, Rejected
    from mercato.plugins.jobs import Backoff, Job, Permanent, Retry, job
    from mercato.plugins.schedules import Schedule
    from mercato.plugins.settings import PluginSettings
    from mercato.prompts.prompt import Prompt
    from mercato.resources.resource import Resource
    from mercato.tenancy.principal import Principal
    from mercato.tenancy.rows import TenantOwned, identity, reference, timestamp, utc_now
    from mercato.tenancy.tenants import Tenant
    from mercato.tools.context import Context, JobContext, ToolContext
    from mercato.tools.cursor import decode_cursor, encode_cursor
    from mercato.tools.errors import Declined, NotConnected, ToolError
    from mercato.tools.params import Cursor, Detail, Limit, Query
    from mercato.tools.tool import Reply, Tool

__all__ = [
    "Backoff",
    "Category",
    "Context",
    "Cursor",
    "Declined",
    "Detail",
    "Event",
    "ImportContext",
    "ImportRefused",
    "ImportReport",
    "Importer",
    "Job",
    "JobContext",
    "Limit",
    "NotConnected",
    "Permanent",
    "PluginSettings",
    "Principal",
    "Prompt",
    "Query",
    "Rejected",
    "Reply",
    "Resource",
    "Retry",
    "Schedule",
    "Tenant",
    "TenantEvent",
    "TenantOwned",
    "Tool",
    "ToolContext",
    "ToolError",
    "decode_cursor",
    "encode_cursor",
    "hookimpl",
    "identity",
    "job",
    "protect_tenant_rows",
    "reference",
    "timestamp",
    "utc_now",
]

_HOMES = {
    "mercato.migrations.protect": ("protect_tenant_rows",),
    "mercato.plugins.category": ("Category",),
    "mercato.plugins.events": ("Event", "TenantEvent"),
    "mercato.plugins.hookspecs": ("hookimpl",),
    "mercato.plugins.importers": ("ImportContext", "ImportRefused", "ImportReport", "Importer", "Rejected"),
    "mercato.plugins.jobs": ("Backoff", "Job", "Permanent", "Retry", "job"),
    "mercato.plugins.schedules": ("Schedule",),
    "mercato.plugins.settings": ("PluginSettings",),
    "mercato.prompts.prompt": ("Prompt",),
    "mercato.resources.resource": ("Resource",),
    "mercato.tenancy.principal": ("Principal",),
    "mercato.tenancy.rows": ("TenantOwned", "identity", "reference", "timestamp", "utc_now"),
    "mercato.tenancy.tenants": ("Tenant",),
    "mercato.tools.context": ("Context", "JobContext", "ToolContext"),
    "mercato.tools.cursor": ("decode_cursor", "encode_cursor"),
    "mercato.tools.errors": ("Declined", "NotConnected", "ToolError"),
    "mercato.tools.params": ("Cursor", "Detail", "Limit", "Query"),
    "mercato.tools.tool": ("Reply", "Tool"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'mercato' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
