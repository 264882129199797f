"""A process that is killed while its commit is under way: the commit may come through all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import anyio
import asyncpg

_GATE = 4711
_HELD = f"select count(*) from pg_locks where locktype = 'advisory' and objid = {_GATE} and not granted"


@asynccontextmanager
async def held_commits(database_url, tenant):
    """Let the commits of one tenant wait until the gate is opened; yield the connection that holds it."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        f"""
        create function public.wait_at_gate() returns trigger language plpgsql as
            $$ begin perform pg_advisory_xact_lock_shared({_GATE}); return null; end $$;
        create constraint trigger wait_at_gate after insert on mercato.disabled_tools deferrable initially deferred
            for each row when (new.tenant_id = {tenant.id}) execute function public.wait_at_gate();
        select pg_advisory_lock({_GATE});
        """
    )
    try:
        yield connection
    finally:
        await connection.execute("select pg_advisory_unlock_all()")
        await connection.execute("drop function public.wait_at_gate() cascade")
        await connection.close()


async def until_held(connection, count, process=None):
    while await connection.fetchval(_HELD) < count:
        assert process is None or process.returncode is None, "it ended before its commit"


async def test_the_repeat_waits_for_a_commit_that_outlives_its_process(
    runtime, mercato_addresses, new_tenant, here, acme, effects
):
    await here.call(await new_tenant(runtime))  # so that the rows of the two processes have different names
    script = "import asyncio, tests.server.replays.killed as killed; asyncio.run(killed.main())"
    environment = {
        **os.environ,
        "KILLED_DATA": str(runtime.settings.data_dir),
        "KILLED_DATABASE": mercato_addresses.database_url,
        "KILLED_REDIS": mercato_addresses.redis_url,
        "KILLED_TENANT": acme.slug,
    }
    async with held_commits(mercato_addresses.database_url, acme) as gate:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, env=environment)
        with anyio.fail_after(60):
            await until_held(gate, 1, process)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        repeat = asyncio.create_task(here.call(acme, name="killed"))
        with anyio.move_on_after(1):
            await until_held(gate, 2)
        await gate.execute("select pg_advisory_unlock_all()")
        code = (await repeat).code
    assert await effects() == 1
    assert code == "replayed"
