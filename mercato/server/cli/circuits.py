"""`mercato circuits`: which outside services jobs wait for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say_json, say_table

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime


def circuits(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the outside services that do not answer a tenant: its jobs wait for them, and lose no attempt."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        from mercato.tenancy.circuits import read_opened
        from mercato.tenancy.tenants import list_tenants

        slugs = {tenant.id: tenant.slug for tenant in await list_tenants(runtime.database)}
        opened = await read_opened(runtime.database.pool)
        return [{"tenant": slugs.get(one.tenant_id), **asdict(one)} for one in opened]

    opened = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(opened)
    else:
        columns = ("tenant", "integration", "outages", "opened_at", "open_until")
        heads = ("tenant", "integration", "outages in a row", "open since", "tried again at")
        say_table("Open circuits", heads, [[one[name] for name in columns] for one in opened])
