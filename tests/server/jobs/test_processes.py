"""Workers as processes: one is killed, Redis forgets everything, and every effect is there once all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.server.jobs import probe

_SCRIPT = "import asyncio, tests.server.jobs.process as process; asyncio.run(process.main())"


@pytest.fixture
def start_worker(runtime, mercato_addresses):
    """Start a worker in a process of its own."""
    environment = {
        **os.environ,
        "WORKER_DATA": str(runtime.settings.data_dir),
        "WORKER_DATABASE": mercato_addresses.database_url,
        "WORKER_REDIS": mercato_addresses.redis_url,
    }

    @asynccontextmanager
    async def start():
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SCRIPT, stdin=pipe, stdout=pipe, env=environment
        )
        try:
            with anyio.fail_after(60):
                assert await process.stdout.readline() == b"ready\n"
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    return start


async def _until(condition, seconds):
    with anyio.fail_after(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_what_a_killed_worker_ran_is_done_by_another_and_every_effect_is_there_once(
    runtime, acme, context, kept, start_worker
):
    pool = runtime.database.pool

    async def count(where):
        return (await pool.fetch(f"select count(*) from mercato.jobs where tenant_id = $1 and {where}", acme.id))[0][0]

    async def all_are_done():
        return await count("state <> 'done'") == 0

    async with start_worker() as first, start_worker():
        async with context(acme) as ctx:
            for number in range(60):
                await probe.linger.enqueue(ctx, name=str(number))
        await _until(lambda: _is_true(count("state = 'running'")), 20)
        await runtime.redis.flushall()
        first.send_signal(signal.SIGKILL)
        await first.wait()
        await _until(all_are_done, 40)
    assert len(set(await kept(acme))) == len(await kept(acme)) == 60


async def _is_true(counting):
    return await counting > 0
