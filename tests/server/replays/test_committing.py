"""A process that is killed while its commit is under way: the commit may come through all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import anyio
import asyncpg
import sqlalchemy as sa

from mercato.server.mcp.delivery import Delivery
from mercato.tenancy import answers

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


async def test_a_commit_that_ends_between_a_look_and_the_question_whether_it_is_under_way_is_seen(
    runtime, mercato_addresses, new_tenant, here, there, acme, effects, monkeypatch
):
    await here.call(await new_tenant(runtime))
    is_committing = answers.is_committing

    async with held_commits(mercato_addresses.database_url, acme) as gate:
        first = asyncio.create_task(there.call(acme, name="killed", delivery=Delivery()))
        with anyio.fail_after(30):
            await until_held(gate, 1)
        asked = asyncio.Event()

        def ask_late(connection, call):
            asked.set()
            while not first.done():
                connection.execute(sa.text("select pg_sleep(0.01)"))
            return is_committing(connection, call)

        monkeypatch.setattr(answers, "is_committing", ask_late)
        repeat = asyncio.create_task(here.call(acme, name="killed"))
        with anyio.fail_after(30):
            await asked.wait()
        await gate.execute("select pg_advisory_unlock_all()")
        assert (await repeat).code == "replayed"
    assert await effects() == 1
