"""Streams that tell of tasks: of one's own, whichever process they change in."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID

import orjson
import pytest

from mercato.server.changes import Change
from mercato.tenancy import job_runs
from tests.server.conftest import envelope
from tests.server.tasks import probe
from tests.server.test_subscriptions import Stream


@asynccontextmanager
async def _listening(mcp, task_ids, **more):
    notifications = {"taskIds": task_ids, **more}
    body, headers = envelope("subscriptions/listen", {"notifications": notifications}, **mcp.capabilities)
    async with mcp.http.stream("POST", "/mcp", json=body, headers=headers) as response:
        stream = Stream(response)
        yield stream, (await stream.next())["params"]["notifications"]


async def _status(stream, wanted):
    """Return the first notification with this status."""
    while True:
        message = await stream.next()
        assert message["method"] == "notifications/tasks"
        if message["params"]["status"] == wanted:
            return message["params"]


async def test_a_stream_tells_of_progress_of_questions_and_of_the_end(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="told")
        async with _listening(mcp, [task["taskId"]]) as (stream, honoured):
            assert honoured == {"taskIds": [task["taskId"]]}
            await worker.run_all()
            asked = await _status(stream, "input_required")
            assert set(asked["inputRequests"]) == {"first", "second"}
            assert asked["_meta"]["io.modelcontextprotocol/subscriptionId"] == 1
            await mcp.answer(task, first={"name": "a"}, second={"name": "b"})
            await _status(stream, "working")
            await worker.run_all()
            await _status(stream, "input_required")
            await mcp.answer(task, third={"name": "c"})
            await worker.run_all()
            ended = await _status(stream, "completed")
    assert ended["taskId"] == task["taskId"]
    assert ended["result"]["structuredContent"] == {"text": "a b c"}


async def test_what_ended_before_the_stream_began_is_told_at_once(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="early")
        await worker.run_all()
        async with _listening(mcp, [task["taskId"]]) as (stream, _):
            assert (await _status(stream, "completed"))["result"]["isError"] is False


async def test_progress_is_told(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="far", held=True)
        async with _listening(mcp, [task["taskId"]]) as (stream, _):
            running = asyncio.create_task(worker.run_all())
            while (told := await _status(stream, "working")).get("statusMessage") is None:
                pass  # what it was when the stream began
            assert told["statusMessage"] == "kept far"
            probe.gates["far"].free.set()
            await running
            await _status(stream, "completed")


async def test_of_one_task_is_told_in_order_and_nothing_after_its_end(acme, background, client, worker, monkeypatch):
    store = background.app.state.served.listening._store
    read, held, reads = store.shown, asyncio.Event(), []

    async def slow(caller, task_id):
        shown = await read(caller, task_id)
        reads.append(shown["status"])
        if shown["status"] == "working":
            await held.wait()
        return shown

    async with client(acme) as mcp:
        task = await mcp.call("keep", word="late")
        monkeypatch.setattr(store, "shown", slow)
        async with _listening(mcp, [task["taskId"]], toolsListChanged=True) as (stream, _):
            await worker.run_all()
            held.set()
            assert [(await stream.next())["params"]["status"] for _ in range(2)] == ["working", "completed"]
            await store.tell(acme.id, UUID(hex=task["taskId"]))
            while reads.count("completed") < 2:
                await asyncio.sleep(0.01)
            await background.runtime.changes.publish(Change("catalog", acme.id))
            assert (await stream.next())["method"] == "notifications/tools/list_changed"


async def test_a_cancelled_task_is_told(acme, client):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="gone")
        async with _listening(mcp, [task["taskId"]]) as (stream, _):
            await mcp.cancel(task)
            await _status(stream, "cancelled")


async def test_tasks_of_others_and_ids_that_are_none_are_not_honoured(acme, globex, client, worker):
    async with client(acme) as mcp, client(globex) as stranger, client(acme) as colleague:
        task = await mcp.call("keep", word="mine")
        for other in (stranger, colleague):
            own = await other.call("keep", word="own")
            ids = [task["taskId"], own["taskId"], "x", "0" * 32]
            async with _listening(other, ids, toolsListChanged=True) as (stream, honoured):
                assert honoured == {"taskIds": [own["taskId"]], "toolsListChanged": True}
                await worker.run_all()
                assert (await _status(stream, "completed"))["taskId"] == own["taskId"]


@pytest.mark.parametrize("task_ids", [["0" * 32] * 101, "nope", [7], {"a": 1}, None])
async def test_what_is_no_list_of_tasks_is_refused(acme, client, task_ids):
    async with client(acme) as mcp:
        notifications = {"taskIds": task_ids}
        body, headers = envelope("subscriptions/listen", {"notifications": notifications}, **mcp.capabilities)
        response = await mcp.http.post("/mcp", json=body, headers=headers)
    assert response.status_code == 400
    assert orjson.loads(response.content)["error"]["code"] == -32602


async def test_a_task_that_an_admin_has_cancelled_is_told(acme, background, client):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="cancelled")
        async with _listening(mcp, [task["taskId"]]) as (stream, _):
            runtime = background.runtime
            async with runtime.database.tenant(acme.id) as db:
                connection = await db.session.connection()
                [run] = await job_runs.read_runs(connection, acme.id)
                await job_runs.cancel(connection, acme.id, run.id)
            await runtime.contexts.administration.run_changed(run)
            await _status(stream, "cancelled")
    assert task["taskId"] not in repr(run)
