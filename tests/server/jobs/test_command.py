"""`mercato jobs`: schedules that are paused and go on, and the view of what waits and runs."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from zoneinfo import ZoneInfo

import anyio
import pytest
from typer.testing import CliRunner

from mercato.plugins.jobs import job
from mercato.plugins.schedules import Schedule
from mercato.server.cli import app
from mercato.server.jobs import working
from mercato.tenancy import audit
from mercato.tenancy.rows import utc_now
from tests.server.jobs import probe


@job("probe.nightly", schedule=Schedule("30 2 * * *"), each_tenant=True)
async def nightly(ctx) -> None:
    """Run each night."""


@pytest.fixture
def environment(runtime, mercato_addresses):
    return {
        "MERCATO_DATA_DIR": str(runtime.settings.data_dir),
        "DATABASE_URL": mercato_addresses.database_url,
        "REDIS_URL": mercato_addresses.redis_url,
        "COLUMNS": "200",
    }


@pytest.fixture
def run(environment, monkeypatch):
    """Run `mercato jobs`, in a thread of its own; some jobs of these tests are among the deployment's."""
    monkeypatch.setattr(working, "CORE_JOBS", (*working.CORE_JOBS, nightly, probe.note, probe.stubborn))

    async def run_it(*arguments):
        command = ["jobs", *arguments]
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, command, env=environment))

    return run_it


@pytest.fixture(autouse=True)
async def no_schedules(runtime):
    yield
    await runtime.database.pool.fetch("delete from mercato.schedules")


async def _paused(run):
    listed = json.loads((await run("schedules", "--json")).stdout)
    return {one["job"]: (one["paused"], one["paused_for"]) for one in listed}


async def test_a_schedule_is_paused_for_one_tenant_and_goes_on(runtime, acme, globex, run):
    said = await run("pause", "probe.nightly", "--tenant", acme.slug)
    assert (said.exit_code, said.stdout) == (0, f"probe.nightly is paused for {acme.slug}.\n")
    assert (await _paused(run))["probe.nightly"] == (False, [acme.slug])
    again = await run("pause", "probe.nightly", "--tenant", acme.slug, "--json")
    assert json.loads(again.stdout) == {
        "job": "probe.nightly",
        "tenant": acme.slug,
        "paused": True,
        "changed": False,
        "paused_for_all": False,
    }
    assert (await run("resume", "probe.nightly", "--tenant", globex.slug)).stdout.endswith(
        f"was not paused for {globex.slug}.\n"
    )
    assert (await run("resume", "probe.nightly", "--tenant", acme.slug)).stdout.endswith(f"goes on for {acme.slug}.\n")
    assert (await _paused(run))["probe.nightly"] == (False, [])
    for tenant, actions in ((acme, ["jobs.resume", "jobs.pause"]), (globex, [])):
        async with runtime.database.tenant(tenant.id) as db:
            entries = (await audit.list_entries(db, limit=10)).items
        assert [one.action for one in entries if one.action.startswith("jobs.")] == actions


async def test_a_schedule_is_paused_for_all(acme, run):
    assert (await run("pause", "probe.nightly")).stdout == "probe.nightly is paused for all.\n"
    assert (await run("pause", "core.purge_jobs")).exit_code == 0
    paused = {name for name, (for_all, _) in (await _paused(run)).items() if for_all}
    assert paused == {"core.purge_jobs", "probe.nightly"}
    assert "for all" in (await run("schedules")).output
    left = await run("resume", "probe.nightly", "--tenant", acme.slug)
    assert left.stdout == f"probe.nightly was not paused for {acme.slug}. It is paused for all, though.\n"
    assert (await run("resume", "probe.nightly")).stdout == "probe.nightly goes on for all.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("probe.nightli",), "Did you mean probe.nightly?"),
        (("something.else",), "`mercato jobs schedules` lists them."),
        (("core.purge_jobs", "--tenant", "TENANT"), "runs once for everybody: leave --tenant out."),
        (("probe.nightly", "--tenant", "nobody-at-all"), "nobody-at-all"),
    ],
)
@pytest.mark.parametrize("command", ["pause", "resume"])
async def test_what_cannot_be_paused_is_refused(acme, run, command, arguments, said):
    refused = await run(command, *(acme.slug if one == "TENANT" else one for one in arguments))
    assert refused.exit_code == 1
    assert said in refused.output


async def test_where_nobody_watches_the_view_is_shown_once(acme, globex, here, enqueue, run):
    await enqueue(acme, probe.keep, name="done")
    await here.run_all()
    await enqueue(acme, probe.keep, name="waits")
    await enqueue(globex, probe.note, word="waits")
    told = json.loads((await run("watch", "--tenant", acme.slug, "--json")).stdout)
    [one] = told["jobs"]
    assert 0 <= one.pop("oldest_due_s") < 60
    assert one == {"job": "probe.keep", "waiting": 1, "due": 1, "running": 0, "asking": 0}
    assert told["ended_last_minute"] == [{"job": "probe.keep", "state": "done", "runs": 1}]
    assert told["workers"] == {}
    shown = await run("watch")
    assert shown.exit_code == 0
    assert shown.output.index("probe.keep") < shown.output.index("probe.note")
    assert "done a second in the last minute; 0 running." in shown.output
    refused = await run("watch", "--tenant", "nobody-at-all")
    assert (refused.exit_code, "nobody-at-all" in refused.output) == (1, True)


async def test_the_view_names_who_is_at_what(runtime, acme, here, enqueue, run):
    run_id = await enqueue(acme, probe.hold, name="held")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(here.service.runner.handle(run_id))
        await probe.gates["held"].started.wait()
        told = json.loads((await run("watch", "--tenant", acme.slug, "--json")).stdout)
        shown = (await run("watch", "--tenant", acme.slug)).output
        probe.gates["held"].free.set()
    assert told["workers"] == {here.service.worker: 1}
    assert f"1 running, at {here.service.worker} (1)." in shown


async def test_on_a_terminal_the_view_goes_on_until_it_is_interrupted(acme, globex, enqueue, environment):
    await enqueue(acme, probe.keep, name="first")
    ours, theirs = pty.openpty()
    script = "from mercato.server.cli import main; main()"
    arguments = ("-c", script, "jobs", "watch", "--tenant", acme.slug, "--every", "0.5")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=theirs, env={**os.environ, **environment, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = ""
    try:
        with anyio.fail_after(60):
            while "probe.keep" not in seen:
                seen += await _read(ours)
            assert "probe.note" not in seen
            await enqueue(acme, probe.note, word="later")
            while "probe.note" not in seen:
                seen += await _read(ours)
            process.send_signal(signal.SIGINT)
            while piece := await _read(ours):  # what is not read keeps it from ending
                seen += piece
            assert await process.wait() == 0
    finally:
        os.close(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "Traceback" not in seen


async def _read(end):
    """Return what has come; nothing at the end, which Linux tells as an error."""
    try:
        return (await anyio.to_thread.run_sync(os.read, end, 65_536)).decode(errors="replace")
    except OSError:
        return ""


async def _end(runtime, run_id, state):
    change = "update mercato.jobs set state = $2, attempt = 3, finished_at = now() where id = $1"
    await runtime.database.pool.fetch(change, run_id, state)


async def test_a_run_is_retried_and_replayed_as_often_as_its_job_says(runtime, acme, enqueue, read, run):
    known, unknown = await enqueue(acme, probe.stubborn, name="x"), await enqueue(acme, probe.note, word="x")
    await runtime.database.pool.fetch("update mercato.jobs set name = 'gone.job', attempts = 9 where id = $1", unknown)
    for run_id, attempts in ((known, 1), (unknown, 5)):
        await _end(runtime, run_id, "dead")
        replayed = json.loads((await run("replay", str(run_id), "--json")).stdout)["run"]
        assert (await read(acme, replayed)).attempts == attempts
        assert (await run("retry", str(run_id))).stdout == f"Run {run_id} is queued again.\n"
        assert (await read(acme, run_id)).attempts == 3 + attempts


async def test_what_cannot_be_retried_is_refused_with_its_reason(runtime, acme, enqueue, run):
    dead, task = await enqueue(acme, probe.note, word="x"), await enqueue(acme, probe.note, word="y")
    for run_id in (dead, task):
        await _end(runtime, run_id, "dead")
    await runtime.database.pool.fetch("update mercato.jobs set task_id = gen_random_uuid() where id = $1", task)
    key = "update mercato.jobs set key = 'k' where id = any($1::bigint[])"
    waits = await enqueue(acme, probe.note, word="z")
    await runtime.database.pool.fetch(key, [dead, waits])
    for run_id, reason in (
        (dead, "is dead: another run with its key waits already"),
        (task, "is dead: it is a task, and its client was told"),
        (waits, "is queued: only what is dead, cancelled or waits for another attempt"),
    ):
        refused = await run("retry", str(run_id))
        assert (refused.exit_code, reason in refused.stderr) == (1, True)


async def test_runs_are_shown_with_their_tenants_slug(acme, globex, enqueue, run):
    run_id = await enqueue(acme, probe.note, word="x")
    await enqueue(globex, probe.note, word="y")
    [listed] = json.loads((await run("list", "--tenant", acme.slug, "--json")).stdout)
    assert (listed["id"], listed["tenant"], listed["tenant_id"]) == (run_id, acme.slug, acme.id)
    assert acme.slug in (await run("show", str(run_id))).stdout
    shown = (await run("list")).stdout
    assert acme.slug in shown
    assert globex.slug in shown


async def test_a_job_that_nobody_declares_and_that_has_no_runs_is_refused(runtime, acme, enqueue, run):
    refused = await run("list", "--job", "probe.nots")
    assert refused.exit_code == 1
    assert "no plugin that is loaded declares a job 'probe.nots'" in refused.stderr
    assert "Did you mean probe.note?" in refused.stderr
    left = await enqueue(acme, probe.note, word="x")
    await runtime.database.pool.fetch("update mercato.jobs set name = 'gone.job' where id = $1", left)
    assert [
        one["id"]
        for one in json.loads((await run("list", "--job", "gone.job", "--tenant", acme.slug, "--json")).stdout)
    ] == [left]
    assert (await run("list", "--job", "probe.stubborn")).exit_code == 0


async def test_a_run_that_waits_for_an_answer_is_seen_and_listed(runtime, acme, globex, enqueue, run):
    asking = await enqueue(acme, probe.note, word="x")
    change = "update mercato.jobs set state = 'waiting', task_id = gen_random_uuid() where id = $1"
    await runtime.database.pool.fetch(change, asking)
    told = json.loads((await run("watch", "--tenant", acme.slug, "--json")).stdout)
    assert [(one["job"], one["waiting"], one["asking"]) for one in told["jobs"]] == [("probe.note", 0, 1)]
    assert json.loads((await run("watch", "--tenant", globex.slug, "--json")).stdout)["jobs"] == []
    listed = json.loads((await run("list", "--state", "waiting", "--tenant", acme.slug, "--json")).stdout)
    assert [one["id"] for one in listed] == [asking]


async def test_the_next_tick_by_tenants_clocks_is_the_earliest_of_them(runtime, acme, globex, run):
    zones = {"UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"}
    await runtime.database.pool.fetch("update mercato.tenants set timezone = 'UTC'")
    for tenant, zone in ((acme, "Pacific/Kiritimati"), (globex, "Pacific/Pago_Pago")):
        await runtime.database.pool.fetch("update mercato.tenants set timezone = $2 where id = $1", tenant.id, zone)
    before = utc_now()
    listed = {one["job"]: one["next"] for one in json.loads((await run("schedules", "--json")).stdout)}
    expected = {
        min(nightly.schedule.next(at, ZoneInfo(zone)) for zone in zones).isoformat(timespec="seconds")
        for at in (before, utc_now())
    }
    assert listed["probe.nightly"] in expected
