from __future__ import annotations

from datetime import timedelta

import anyio
import orjson
import pytest

from mercato import job, utc_now
from mercato.tenancy.ledger import NewJob, enqueue
from mercato.tenancy.memberships import Role
from mercato.tenancy.ticks import pause
from tests.inmemory import client_of, plugin
from tests.plugins.system.conftest import SYSTEM


@job("mailing.send", integration="mailer")
async def send_mail(ctx) -> None:
    """Send mail."""


JOB = "commerce.tell_of_low_stock"
WRITES = ("retry_job", "cancel_job")


@pytest.fixture
def put(database):
    """Store a run for a tenant, in some state."""

    async def one(tenant, state="queued", payload=None, **options):
        new = NewJob(name=JOB, version=1, payload=orjson.dumps(payload or {}).decode(), attempts=1, **options)
        async with database.tenant(tenant.id) as db:
            run_id = await enqueue(db, new)
        if state != "queued":
            lease = "now() + interval '1 hour'" if state == "running" else "null"
            ended = "now()" if state in {"done", "dead", "cancelled"} else "null"
            change = f"update mercato.jobs set state = $2, lease_until = {lease}, finished_at = {ended} where id = $1"
            await database.pool.fetch(change, run_id, state)
        return run_id

    return one


@pytest.fixture(autouse=True)
async def none_is_left(database):
    yield
    await database.pool.fetch("delete from mercato.jobs")
    await database.pool.fetch("delete from mercato.schedules")


async def _call(client, tool, **arguments):
    return (await client.call_tool(tool, arguments)).structured_content


async def _runs(client, **arguments):
    return [run["id"] for run in (await _call(client, "list_jobs", **arguments))["jobs"]]


async def test_a_queue_is_counted_by_state(mcp, tenant, put, database):
    for state in ("queued", "queued", "retrying", "running", "dead", "done"):
        await put(tenant, state)
    await pause(database.pool, "commerce.other", tenant.id, paused=True)
    status = await _call(mcp, "get_job_queue_status")
    assert (status["total_pending"], status["total_running"], status["total_dead"]) == (3, 1, 1)
    other, queue = status["queues"]
    assert (other["job"], other["paused"], other["queued"]) == ("commerce.other", True, 0)
    assert queue.pop("oldest_due_at") is not None
    assert queue == {
        "job": JOB,
        "queued": 2,
        "running": 1,
        "retrying": 1,
        "waiting": 0,
        "done": 1,
        "dead": 1,
        "cancelled": 0,
        "paused": False,
    }
    first = await _call(mcp, "get_job_queue_status", limit=1)
    second = await _call(mcp, "get_job_queue_status", limit=1, cursor=first["next_cursor"])
    assert [page["queues"][0]["job"] for page in (first, second)] == ["commerce.other", JOB]
    assert second["next_cursor"] is None


async def test_a_job_without_runs_has_an_empty_queue_and_one_that_is_unknown_an_error(mcp, tenant):
    status = await _call(mcp, "get_job_queue_status", job=JOB)
    assert (status["queues"][0]["queued"], status["total_count"]) == (0, 1)
    for tool in ("get_job_queue_status", "list_jobs"):
        result = await mcp.call_tool(tool, {"job": "commerce.tell_of_low"})
        assert f"Did you mean `{JOB}`?" in result.content[0].text
        assert result.meta["mercato/error"]["field"] == "job"
    assert await _runs(mcp, job=JOB) == []


async def test_runs_are_listed_newest_first_by_pages_and_filters(mcp, tenant, put):
    runs = [await put(tenant, state) for state in ("done", "dead", "queued", "dead", "done")]
    assert await _runs(mcp) == runs[::-1]
    assert await _runs(mcp, state="dead") == [runs[3], runs[1]]
    assert await _runs(mcp, run_id=runs[2]) == [runs[2]]
    seen, cursor = [], None
    while True:
        page = await _call(mcp, "list_jobs", limit=2, **({"cursor": cursor} if cursor else {}))
        assert page["total_count"] == 5
        seen += [run["id"] for run in page["jobs"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == runs[::-1]


async def test_payloads_are_shown_when_they_are_asked_for_and_secrets_never(mcp, tenant, put, database):
    run_id = await put(tenant, "dead", {"api_key": "mck_abcdefgh12345678", "note": "Bearer abcdefgh", "units": 3})
    await database.pool.fetch("update mercato.jobs set error = $2 where id = $1", run_id, "x" * 900)
    [concise] = (await _call(mcp, "list_jobs"))["jobs"]
    assert (concise["payload"], len(concise["error"])) == (None, 300)
    [full] = (await _call(mcp, "list_jobs", detail="full"))["jobs"]
    assert full["payload"] == {"api_key": "***", "note": "***", "units": 3}
    assert len(full["error"]) == 900


async def test_a_run_of_a_task_says_who_asked_and_nothing_of_their_credential(mcp, other_mcp, tasks, tenant):
    await tasks.call("export_audit_log", format="csv")
    for client in (mcp, other_mcp):
        status = await _call(client, "get_job_queue_status", job="mcp.run_tool")
        assert status["queues"][0]["queued"] == (1 if client is mcp else 0)
    [run] = (await _call(mcp, "list_jobs", job="mcp.run_tool", detail="full"))["jobs"]
    assert set(run["payload"]["principal"]) == {"kind", "user_id"}
    assert (run["payload"]["tool"], run["payload"]["sealed"]) == ("export_audit_log", "***")
    assert (await _call(other_mcp, "list_jobs", job="mcp.run_tool"))["jobs"] == []
    result = await mcp.call_tool("get_job_event_schema", {"event_name": "mcp.run_tool"})
    assert "is the server's own job behind tasks" in result.content[0].text


async def test_what_is_due_later_is_not_the_oldest_that_is_due(mcp, tenant, put):
    await put(tenant, due_at=utc_now() + timedelta(hours=1))
    [queue] = (await _call(mcp, "get_job_queue_status"))["queues"]
    assert (queue["queued"], queue["oldest_due_at"]) == (1, None)


async def test_a_run_says_which_service_it_waits_for(open_plugins, new_tenant):
    mailing = plugin("mailing", register_jobs=[send_mail])
    async with open_plugins(SYSTEM, mailing) as runtime:
        acme, globex = await new_tenant(runtime), await new_tenant(runtime)
        for tenant in (acme, globex):
            async with runtime.database.tenant(tenant.id) as db:
                await enqueue(db, NewJob(name="mailing.send", version=1, payload="{}", attempts=1))
        opened = "insert into mercato.circuits (tenant_id, integration, outages, opened_at, open_until)"
        until = utc_now() + timedelta(minutes=5)
        await runtime.database.pool.fetch(f"{opened} values ($1, 'mailer', 3, now(), $2)", acme.id, until)
        async with client_of(runtime, acme) as mcp, client_of(runtime, globex) as other_mcp:
            [run] = (await _call(mcp, "list_jobs"))["jobs"]
            [other] = (await _call(other_mcp, "list_jobs"))["jobs"]
            await runtime.database.pool.fetch("update mercato.circuits set open_until = now()")
            [trial] = (await _call(mcp, "list_jobs"))["jobs"]
        await runtime.database.pool.fetch("delete from mercato.circuits")
    assert (run["waits_for"], other["waits_for"]) == (f"mailer until {until:%H:%M} UTC", None)
    assert trial["waits_for"] == "mailer, which is tried again now"


async def test_a_run_that_failed_is_run_again_and_a_repetition_does_nothing(mcp, tenant, put, run_jobs):
    run_id = await put(tenant)  # without its event it can only fail
    await run_jobs()
    [run] = (await _call(mcp, "list_jobs", state="dead"))["jobs"]
    assert (run["id"], run["attempt"], run["attempts"]) == (run_id, 1, 1)
    assert "`event` is missing" in run["error"]
    changed = await _call(mcp, "retry_job", run_id=run_id)
    assert changed == {
        "id": run_id,
        "job": JOB,
        "state": "queued",
        "changed": True,
        "message": f"Run {run_id} is queued again.",
    }
    assert (await _call(mcp, "retry_job", run_id=run_id))["changed"] is False
    [run] = (await _call(mcp, "list_jobs"))["jobs"]
    assert run["attempts"] == 6
    await run_jobs()
    [run] = (await _call(mcp, "list_jobs"))["jobs"]
    assert (run["state"], run["attempt"]) == ("dead", 2)


async def test_a_run_is_cancelled_at_once_or_told_to_end_and_a_repetition_does_nothing(mcp, tenant, put):
    waiting, running, done = [await put(tenant, state) for state in ("queued", "running", "done")]
    said = [await _call(mcp, "cancel_job", run_id=one) for one in (waiting, running, done)]
    assert [(one["state"], one["changed"]) for one in said] == [
        ("cancelled", True),
        ("running", True),
        ("done", False),
    ]
    assert said[1]["message"] == f"Run {running} was told to end."
    again = [await _call(mcp, "cancel_job", run_id=one) for one in (waiting, running)]
    assert [(one["state"], one["changed"]) for one in again] == [("cancelled", False), ("running", False)]
    assert again[1]["message"] == f"Run {running} was told to end: there was nothing to do."
    assert (await _call(mcp, "retry_job", run_id=waiting))["state"] == "queued"


async def test_a_run_whose_key_another_one_waits_under_is_not_run_again(mcp, tenant, put):
    dead = await put(tenant, "dead", key="k")
    await put(tenant, key="k")
    result = await mcp.call_tool("retry_job", {"run_id": dead})
    assert result.is_error
    assert "another run with its key waits already" in result.content[0].text


async def test_what_was_steered_is_in_the_audit(mcp, tenant, put):
    run_id = await put(tenant, "dead")
    await _call(mcp, "retry_job", run_id=run_id)
    await _call(mcp, "cancel_job", run_id=run_id)
    entries = (await _call(mcp, "get_audit_log", detail="full", limit=2))["entries"]
    assert [(one["action"], one["arguments"], one["effect"]["state"]) for one in entries] == [
        ("cancel_job", {"run_id": run_id}, "cancelled"),
        ("retry_job", {"run_id": run_id}, "queued"),
    ]


async def test_nothing_of_another_tenant_or_of_the_deployment_is_shown_or_steered(
    mcp, other_mcp, tenant, other_tenant, put, database
):
    theirs = [await put(tenant, state) for state in ("queued", "dead", "running")]
    [(of_nobody,)] = await database.pool.fetch(
        "insert into mercato.jobs (tenant_id, name, version, payload, priority, state, attempts)"
        " values (0, 'core.purge_jobs', 1, '{}', 1, 'dead', 1) returning id"
    )
    before = await database.pool.fetch("select * from mercato.jobs order by id")
    assert await _runs(other_mcp) == []
    assert (await _call(other_mcp, "get_job_queue_status"))["queues"] == []
    assert (await _call(other_mcp, "list_job_events", search="core."))["events"] == []
    for run_id in [*theirs, of_nobody, 2**62]:
        for tool in ("list_jobs", *WRITES):
            result = await other_mcp.call_tool(tool, {"run_id": run_id})
            assert result.is_error, tool
            assert f"There is no run {run_id}." in result.content[0].text
            assert result.meta["mercato/error"]["field"] == "run_id"
    assert sorted(await _runs(mcp)) == theirs
    assert await database.pool.fetch("select * from mercato.jobs order by id") == before


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_runs_are_for_owners_and_admins_and_counts_for_everybody(client_as, tenant, put, role):
    run_id = await put(tenant, "dead")
    async with client_as(role) as client:
        assert (await _call(client, "get_job_queue_status"))["total_dead"] == 1
        listed = {tool.name for tool in (await client.list_tools()).tools}
    assert {"list_job_events", "get_job_event_schema", "validate_job_payload", "get_job_categories"} <= listed
    assert listed.isdisjoint({"list_jobs", *WRITES})
    async with client_as(Role.ADMIN) as client:
        assert await _runs(client) == [run_id]


async def test_a_run_that_is_retried_is_told_to_the_workers(mcp, tenant, put, database):
    run_id = await put(tenant, "dead")
    told = anyio.Event()
    listening = await database.pool.listen("mercato_jobs", lambda _: told.set(), lambda: None)
    try:
        await _call(mcp, "retry_job", run_id=run_id)
        with anyio.fail_after(5):
            await told.wait()
    finally:
        listening.terminate()
