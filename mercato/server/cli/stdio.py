"""`mercato stdio`: MCP on standard input and output, for one tenant, for clients that start their servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mercato.server.cli.session import DataDir, TenantSlug, read_settings, with_runtime

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime


def stdio(tenant: TenantSlug, data_dir: DataDir = None) -> None:
    """Speak MCP on standard input and output, acting as the owner of one tenant."""
    settings = read_settings(data_dir)

    async def work(runtime: Runtime) -> None:
        from mercato.server.mcp.terminal import serve_terminal

        await serve_terminal(runtime, tenant)

    with_runtime(settings, work)
