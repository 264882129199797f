from __future__ import annotations

import asyncio
import sys

import anyio

from tests.sources import ROOT

ENOUGH = 6_000


async def test_after_a_kill_the_admissions_say_exactly_how_many_records_are_missing(
    mercato_addresses, tenant, recorded, admitted
):
    program = [sys.executable, "-m", "tests.server.usage.calling_process"]
    arguments = [mercato_addresses.database_url, mercato_addresses.redis_url, str(tenant.id)]
    process = await asyncio.create_subprocess_exec(*program, *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    with anyio.fail_after(60):
        seen = len(await process.stdout.readexactly(ENOUGH))
        process.kill()
        seen += len(await process.stdout.read())
        await process.wait()
        counted = await admitted(tenant.id)
        while counted < seen:  # handed to the kernel, and on its way
            counted = await admitted(tenant.id)
    assert seen <= counted <= seen + 1
    assert counted - 4_000 <= await recorded(tenant.id) <= counted
    assert await admitted(tenant.id) == counted
