"""`mercato stdio`: MCP on standard input and output, for one tenant, for clients that start their servers."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from mercato.server.cli.session import SET_UP, DataDir, TenantSlug, read_settings, with_runtime
from mercato.server.cli.terminal import stop

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime


def stdio(tenant: TenantSlug, data_dir: DataDir = None) -> None:
    """Speak MCP on standard input and output, acting as the owner of one tenant."""
    settings = read_settings(data_dir)
    source, sink = _claim()

    async def work(runtime: Runtime) -> None:
        from mercato.server.jobs.working import working
        from mercato.server.mcp.terminal import serve_terminal

        # With engines of this machine there may be no other worker; those of a deployment have theirs.
        slots = settings.job_slots if settings.database_url is None else 0
        async with working(runtime, slots, patience_s=0):
            await serve_terminal(runtime, tenant, source, sink)

    with_runtime(settings, work)


def _claim() -> tuple[int, int]:
    """Return stdin and stdout as descriptors of the protocol's own.

    From here to the end of the process, before any plugin is imported, whatever else reads stdin finds it empty, and
    whatever else writes to stdout writes to stderr: a plugin's `print`, a library's, a child's.
    """
    try:
        source, sink = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3) for number in (0, 1))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
    except OSError as error:
        stop(f"standard input, output and error must be open ({error.strerror}).", SET_UP)
    return source, sink
