"""What can be seen of jobs from outside: metrics, `/readyz`, and the samples that both stand on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys

import anyio
import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mercato.server.app import _readyz
from mercato.server.gauges import watch
from mercato.server.jobs import samples
from mercato.server.jobs.samples import JobSamples, Sampled
from mercato.server.jobs.working import every_job, working
from mercato.server.metrics_page import MetricsPage
from mercato.tenancy import job_backlog, ledger_work
from tests.server.jobs import probe


async def _figures(metrics):
    """Return the figures of a page, by their name with its labels."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(MetricsPage(metrics, None)), base_url="http://m") as at:
        text = (await at.get("/metrics")).text
    return {name: float(figure) for name, figure in re.findall(r"^(mercato_job\S*) (\S+)$", text, re.MULTILINE)}


@pytest.fixture
async def ready(runtime):
    """Ask `/readyz`: its status, and what it tells of jobs now."""
    app = Starlette(routes=[Route("/readyz", _readyz)])
    app.state.runtime = runtime
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:

        async def ask():
            runtime.job_samples = JobSamples(runtime.database.pool, lambda: every_job(runtime.plugins))
            answer = await client.get("/readyz")
            return answer.status_code, answer.json()["jobs"]

        yield ask


async def _make_late(runtime, run_id, seconds):
    change = "update mercato.jobs set due_at = now() - $2 * interval '1 second' where id = $1"
    await runtime.database.pool.fetch(change, run_id, seconds)


async def test_attempts_are_counted_by_job_and_outcome_with_their_time_and_delay(runtime, here, acme, enqueue):
    await _make_late(runtime, await enqueue(acme, probe.keep, name="one"), 40)
    await enqueue(acme, probe.keep, name="two")
    await enqueue(acme, probe.note, word="it writes nothing")
    await enqueue(acme, probe.fail, how="no luck", times=1)
    await enqueue(acme, probe.fail, how="permanent")
    await here.run_all()
    seen = await _figures(here.service.metrics)
    assert {name: figure for name, figure in seen.items() if name.startswith("mercato_job_runs_total")} == {
        'mercato_job_runs_total{job="probe.keep",outcome="done"}': 2,
        'mercato_job_runs_total{job="probe.note",outcome="done"}': 1,
        'mercato_job_runs_total{job="probe.fail",outcome="retrying"}': 1,
        'mercato_job_runs_total{job="probe.fail",outcome="done"}': 1,
        'mercato_job_runs_total{job="probe.fail",outcome="dead"}': 1,
    }
    assert seen['mercato_job_duration_seconds_count{job="probe.fail"}'] == 3
    assert seen['mercato_job_start_delay_seconds_bucket{job="probe.keep",le="30"}'] == 1
    assert seen['mercato_job_start_delay_seconds_bucket{job="probe.keep",le="60"}'] == 2
    assert seen['mercato_job_start_delay_seconds_sum{job="probe.keep"}'] >= 40


async def test_an_attempt_that_another_worker_has_now_is_counted_as_lost(runtime, here, acme, enqueue):
    run_id = await enqueue(acme, probe.hold, name="held")
    async with asyncio.TaskGroup() as tasks:
        await here.service.relay.ring()
        tasks.create_task(here.provider.run())
        await probe.gates["held"].started.wait()
        late = "update mercato.jobs set lease_until = now() - interval '1 s' where id = $1"
        await runtime.database.pool.fetch(late, run_id)
        await ledger_work.reap(runtime.database.pool)
        probe.gates["held"].free.set()
    assert here.service.metrics.job_runs == {("probe.hold", "lost"): 1}


async def test_an_attempt_that_is_given_back_is_counted_as_stopped(here, acme, enqueue):
    run_id = await enqueue(acme, probe.hold, name="held")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(here.service.runner.handle(run_id))
        await probe.gates["held"].started.wait()
        here.service.running.runs[run_id].end("stopped")
    assert here.service.metrics.job_runs == {("probe.hold", "stopped"): 1}


async def test_the_page_tells_what_waits_runs_and_is_dead(runtime, here, acme, globex, enqueue):
    await _make_late(runtime, await enqueue(acme, probe.keep, name="one"), 90)
    await enqueue(globex, probe.keep, name="two")
    await enqueue(globex, probe.keep, name="later", delay_s=500)
    dead = await enqueue(acme, probe.note, word="x")
    await runtime.database.pool.fetch("update mercato.jobs set state = 'cancelled' where state = 'dead'")
    await runtime.database.pool.fetch("update mercato.jobs set state = 'dead' where id = $1", dead)
    running = await enqueue(acme, probe.hold, name="held")
    runtime.job_samples = JobSamples(runtime.database.pool, lambda: every_job(runtime.plugins))
    watch(runtime)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(here.service.runner.handle(running))
        await probe.gates["held"].started.wait()
        seen = await _figures(runtime.metrics)
        probe.gates["held"].free.set()
    assert seen['mercato_jobs_waiting{job="probe.keep"}'] == 3
    assert seen['mercato_jobs_due{job="probe.keep"}'] == 2
    assert 90 <= seen['mercato_jobs_oldest_due_seconds{job="probe.keep"}'] < 120
    assert seen['mercato_jobs_running{job="probe.hold"}'] == 1
    assert seen['mercato_jobs_oldest_due_seconds{job="probe.hold"}'] == 0
    assert seen['mercato_jobs_dead{job="probe.note"}'] == 1
    assert (seen["mercato_jobs_running_here"], seen["mercato_job_worker"]) == (0, 0)


async def test_a_ledger_is_counted_for_one_tenant_too(runtime, acme, globex, enqueue, here):
    await enqueue(acme, probe.keep, name="one")
    await enqueue(acme, probe.note, word="x")
    await enqueue(globex, probe.keep, name="two")
    pool = runtime.database.pool
    of_acme = {one.name: one.waiting for one in await job_backlog.read_backlog(pool, acme.id)}
    of_all = {one.name: one.waiting for one in await job_backlog.read_backlog(pool)}
    assert (of_acme, of_all["probe.keep"]) == ({"probe.keep": 1, "probe.note": 1}, 2)
    await here.run_all()
    assert await job_backlog.count_ended(pool, 60, globex.id) == {("probe.keep", "done"): 1}
    assert await job_backlog.read_busy(pool, globex.id) == {}


async def test_those_who_look_at_once_share_a_reading_and_it_is_kept_for_a_while(monkeypatch):
    readings = 0
    go_on = anyio.Event()

    async def read():
        nonlocal readings
        readings += 1
        await go_on.wait()
        return readings

    sampled = Sampled(read, 10)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(sampled.look)
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert (await sampled.look(), readings) == (1, 1)
    later = samples.time.monotonic() + 11
    monkeypatch.setattr(samples.time, "monotonic", lambda: later)
    assert (await sampled.look(), readings) == (2, 2)


async def test_a_database_that_does_not_answer_leaves_a_figure_unknown(monkeypatch):
    async def fails():
        raise asyncpg.CannotConnectNowError

    async def never_ends():
        await anyio.Event().wait()

    monkeypatch.setattr(samples, "_PATIENCE_S", 0.05)
    for read in (fails, never_ends):
        assert await Sampled(read, 10).look() is None


async def test_readyz_says_whether_a_worker_runs_here_and_is_ready_without_one(runtime, acme, ready):
    assert await ready() == (200, {"worker": "none here", "ledger": "up to date", "oldest_due_s": 0})
    async with working(runtime, 1, patience_s=1) as service:
        assert (await ready())[1]["worker"] == "runs"
        service.relay._tasks[0].cancel()
        await asyncio.wait(service.relay._tasks[:1])
        assert (await ready())[1]["worker"] == "has ended"
    assert (await ready())[1]["worker"] == "none here"


async def test_readyz_says_whether_the_ledger_is_behind_and_stays_ready(runtime, acme, enqueue, ready):
    run_id = await enqueue(acme, probe.keep, name="one")
    assert (await ready())[1]["ledger"] == "up to date"
    await _make_late(runtime, run_id, 61)
    status, said = await ready()
    assert (status, said["ledger"]) == (200, "behind")
    assert 61 <= said["oldest_due_s"] < 90


async def test_a_ledger_is_not_behind_for_runs_that_no_further_worker_here_would_begin(
    runtime, here, acme, globex, enqueue, ready
):
    unknown = await enqueue(acme, probe.keep, name="of another deployment")
    await runtime.database.pool.fetch("update mercato.jobs set name = 'gone.job' where id = $1", unknown)
    running = await enqueue(acme, probe.single, name="held")
    for run_id in (unknown, await enqueue(globex, probe.single, name="waits")):
        await _make_late(runtime, run_id, 61)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(here.service.runner.handle(running))
        await probe.gates["held"].started.wait()
        while_it_runs = await ready()
        probe.gates["held"].free.set()
    assert while_it_runs[1] == {"worker": "none here", "ledger": "up to date", "oldest_due_s": 0}
    assert (await ready())[1]["ledger"] == "behind"


async def test_readyz_does_not_ask_a_ledger_that_cannot_answer(runtime, acme, ready, monkeypatch):
    async def fails():
        raise ConnectionError

    monkeypatch.setattr(runtime.database, "ping", fails)
    assert await ready() == (503, {"worker": "none here", "ledger": "unknown", "oldest_due_s": None})


async def test_a_worker_shows_its_metrics_where_it_is_told_to(mercato_addresses, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    script = "from mercato.server.cli import main; main()"
    arguments = ("-c", script, "worker", "--slots", "1", "--metrics-port", str(port), "--json")
    environment = {
        **os.environ,
        "MERCATO_DATA_DIR": str(tmp_path),
        "DATABASE_URL": mercato_addresses.database_url,
        "REDIS_URL": mercato_addresses.redis_url,
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe, env=environment)
    try:
        with anyio.fail_after(60):
            assert json.loads(await process.stdout.readline())["slots"] == 1
            async with httpx.AsyncClient() as client:
                page = await client.get(f"http://127.0.0.1:{port}/metrics")
    finally:
        process.terminate()
        await process.wait()
    assert "\nmercato_job_worker 1.0\n" in page.text
