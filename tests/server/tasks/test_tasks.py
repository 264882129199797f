"""Tasks: a call that is stored before its answer leaves, run in a worker as whoever asked, once."""

from __future__ import annotations

import asyncio

import pytest
from sqlmodel import col, select

from mercato.server.changes import Change
from mercato.server.mcp.tasks import run_tool, store
from mercato.server.mcp.tasks.extension import EXTENSION
from mercato.tenancy import ledger_work
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.grants import DisabledTool, disable_category, enable_category
from mercato.tenancy.keys import list_keys, revoke_key
from mercato.tenancy.ledger import JobRun
from tests.server.conftest import HELLO, envelope, legacy, modern
from tests.server.tasks import probe


@pytest.fixture
def kept(background):
    async def names(tenant):
        async with background.runtime.database.tenant(tenant.id) as db:
            return [row.tool for row in await db.rows(select(DisabledTool.tool).order_by(col(DisabledTool.id)))]

    return names


async def test_a_call_is_answered_with_a_task_that_is_there_at_once_and_ends_in_a_worker(acme, client, worker, kept):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="one")
        assert task["resultType"] == "task"
        assert len(task["taskId"]) == 32
        assert (await mcp.get(task))["status"] == "working"
        assert await kept(acme) == []
        assert await worker.run_all() == 1
        ended = await mcp.get(task)
    assert ended["resultType"] == "complete"
    assert ended["status"] == "completed"
    assert ended["result"]["structuredContent"] == {"text": f"one for {acme.slug} by key"}
    assert ended["result"]["isError"] is False
    assert ended["createdAt"] <= ended["lastUpdatedAt"]
    assert await kept(acme) == ["one-1"]


async def test_the_write_is_audited_as_the_callers_own(acme, background, client, worker):
    async with client(acme) as mcp:
        await mcp.call("keep", word="audited")
    await worker.run_all()
    async with background.runtime.database.tenant(acme.id) as db:
        entries = await db.rows(select(AuditEntry.kind, AuditEntry.arguments).where(AuditEntry.action == "keep"))
    assert [tuple(entry) for entry in entries] == [("key", {"word": "audited"})]


async def test_a_client_that_takes_no_tasks_waits_for_the_answer(acme, background, kept):
    key = await background.key(acme)
    async with background.client(key) as http:
        answer = (await modern(http, "tools/call", {"name": "keep", "arguments": {"word": "now"}})).json()["result"]
        old = (await legacy(http, "tools/call", {"name": "keep", "arguments": {"word": "old"}}))["result"]
    assert answer["structuredContent"]["text"].startswith("now")
    assert old["structuredContent"]["text"].startswith("old")
    assert await kept(acme) == ["now-1", "old-1"]


async def test_a_tool_that_must_be_a_task_is_refused_to_others_in_the_protocols_words(acme, background):
    async with background.client(await background.key(acme)) as http:
        response = await modern(http, "tools/call", {"name": "look", "arguments": {}})
        old = await legacy(http, "tools/call", {"name": "look", "arguments": {}})
    for error in (response.json()["error"], old["error"]):
        assert error["code"] == -32021
        assert error["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    assert response.status_code == 400


async def test_methods_need_the_extension_and_are_unknown_in_the_handshake_era(acme, background):
    async with background.client(await background.key(acme)) as http:
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            assert (await modern(http, method, {"taskId": "a"})).json()["error"]["code"] == -32021
            assert (await legacy(http, method, {"taskId": "a"}))["error"]["code"] == -32601


@pytest.mark.parametrize("header", ["", "0" * 32])
async def test_a_header_that_names_another_task_is_refused(acme, client, header):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="one")
        answer = await mcp.send("tasks/get", {"taskId": task["taskId"]}, **{"mcp-name": header})
    assert answer["error"]["code"] == -32020


async def test_a_task_of_another_tenant_or_credential_is_unknown(acme, globex, client, worker):
    async with client(acme) as mcp, client(acme) as colleague, client(globex) as stranger:
        task = await mcp.call("ask_twice", word="mine")
        await worker.run_all()
        for other in (colleague, stranger):
            for method, more in (("tasks/get", {}), ("tasks/cancel", {}), ("tasks/update", {"inputResponses": {}})):
                answer = await other.send(method, {"taskId": task["taskId"], **more})
                assert answer["error"]["code"] == -32602
        assert (await mcp.get(task))["status"] == "input_required"


@pytest.mark.parametrize("text", ["", "x", "0" * 32, "0" * 31, "0" * 1_000, "../1", "ÄÖ", "0x" + "0" * 30])
async def test_ids_that_are_none_are_unknown(acme, client, text):
    async with client(acme) as mcp:
        name = text if text.isascii() else "x"
        answer = await mcp.send("tasks/get", {"taskId": text}, **{"mcp-name": name})
    assert answer["error"]["code"] in {-32602, -32020}


async def test_arguments_that_do_not_fit_are_refused_before_there_is_a_task(acme, client, worker):
    async with client(acme) as mcp:
        answer = await mcp.call("keep", wrong=1)
    assert answer["isError"] is True
    assert await worker.run_all() == 0


async def test_what_a_tool_says_is_a_result_and_what_the_protocol_says_a_failure(acme, client, worker):
    async with client(acme) as mcp:
        tasks = {how: await mcp.call("stumble", how=how) for how in ("tool", "protocol", "secret")}
        await worker.run_all()
        tool, protocol, secret = [await mcp.get(task) for task in tasks.values()]
    assert (tool["status"], tool["result"]["isError"]) == ("completed", True)
    assert tool["result"]["content"][0]["text"] == "It cannot be done."
    assert protocol["status"] == "failed"
    assert protocol["error"] == {"code": -32050, "message": "The protocol says no.", "data": {"why": "protocol"}}
    assert "result" not in protocol
    assert (secret["status"], secret["result"]["isError"]) == ("completed", True)
    assert "password" not in str(secret)


async def test_an_answer_that_is_too_large_to_be_kept_is_no_effect(acme, client, worker, kept, monkeypatch):
    monkeypatch.setattr(run_tool, "LARGEST_RESULT_BYTES", 50)
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="large")
        await worker.run_all()
        monkeypatch.undo()
        ended = await mcp.get(task)
    assert ended["result"]["_meta"]["mercato/error"]["code"] == "answer_too_large"
    assert await kept(acme) == []


async def test_a_long_answer_comes_whole(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("look", long=True)
        await worker.run_all()
        ended = await mcp.get(task)
    assert ended["result"]["structuredContent"]["text"] == "x" * 39_000


async def test_a_sealed_value_of_one_run_opens_in_no_other(acme, background, client, worker):
    async with client(acme) as mcp:
        one, other = await mcp.call("keep", word="one"), await mcp.call("keep", word="other")
        await worker.run_all()
        await background.runtime.database.pool.fetch(
            "update mercato.jobs set result = (select result from mercato.jobs where task_id = $1::text::uuid)"
            " where task_id = $2::text::uuid",
            one["taskId"],
            other["taskId"],
        )
        answer = await mcp.send("tasks/get", {"taskId": other["taskId"]})
    assert answer["error"]["code"] == -32603
    assert "one for" not in str(answer)


async def test_an_answer_to_a_question_does_not_lie_open_in_the_ledger(acme, background, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="sealed")
        await worker.run_all()
        await mcp.answer(task, first={"name": "hunter2"})
        [row] = await background.runtime.database.pool.fetch(
            "select exchange::text from mercato.jobs where tenant_id = $1", acme.id
        )
        assert "hunter2" not in row[0]
        await mcp.answer(task, second={"name": "b"})
        await worker.run_all()
        await mcp.answer(task, third={"name": "c"})
        await worker.run_all()
        assert (await mcp.get(task))["result"]["structuredContent"] == {"text": "hunter2 b c"}


async def test_a_key_of_a_call_is_not_that_of_a_task(acme, background, client, worker):
    meta = {"mercato/idempotency-key": "crossing"}
    async with client(acme) as mcp:
        task = await mcp.call("keep", meta, word="crossed")
        params = {"name": "keep", "arguments": {"word": "crossed"}, "_meta": meta}
        answer = (await modern(mcp.http, "tools/call", params)).json()["result"]
    assert task["resultType"] == "task"
    assert answer["isError"] is True
    assert answer["_meta"]["mercato/error"]["code"] == "idempotency_key_reused"


async def test_neither_arguments_nor_results_lie_open_in_the_ledger(acme, background, client, worker):
    async with client(acme) as mcp:
        await mcp.call("keep", word="mck_abcdefgh12345678abcdefgh12345678")
        await worker.run_all()
    rows = await background.runtime.database.pool.fetch(
        "select payload::text || coalesce(result::text, '') from mercato.jobs where tenant_id = $1", acme.id
    )
    assert len(rows) == 1
    assert "abcdefgh12345678" not in rows[0][0]


async def test_questions_leave_the_worker_and_the_tool_goes_on_with_the_last_answer(acme, client, worker, kept):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="asked")
        assert await worker.run_all() == 1
        waiting = await mcp.get(task)
        assert waiting["status"] == "input_required"
        assert set(waiting["inputRequests"]) == {"first", "second"}
        assert waiting["inputRequests"]["first"]["method"] == "elicitation/create"
        assert waiting["inputRequests"]["first"]["params"]["message"] == "The first?"
        assert _is_ack(await mcp.answer(task, first={"name": "a"}, unknown={"name": "z"}))
        assert set((await mcp.get(task))["inputRequests"]) == {"second"}
        assert await worker.run_all() == 0
        await mcp.answer(task, second={"name": "b"})
        assert await worker.run_all() == 1
        assert set((await mcp.get(task))["inputRequests"]) == {"third"}
        await mcp.answer(task, third={"name": "c"})
        await worker.run_all()
        ended = await mcp.get(task)
        assert _is_ack(await mcp.answer(task, third={"name": "late"}))
    assert ended["status"] == "completed"
    assert ended["result"]["structuredContent"] == {"text": "a b c"}
    assert await kept(acme) == ["asked"]


def _is_ack(answer):
    return answer["result"].keys() == {"resultType", "_meta"} and answer["result"]["resultType"] == "complete"


async def test_a_question_that_is_declined_ends_the_call_with_nothing_done(acme, client, worker, kept):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="declined")
        await worker.run_all()
        responses = {"first": {"action": "decline"}, "second": {"action": "cancel"}}
        await mcp.send("tasks/update", {"taskId": task["taskId"], "inputResponses": responses})
        await worker.run_all()
        ended = await mcp.get(task)
    assert ended["result"]["isError"] is True
    assert "declined" in ended["result"]["content"][0]["text"]
    assert await kept(acme) == []


@pytest.mark.parametrize("response", ["yes", 1, {}, {"action": "maybe"}, {"content": {"name": "x"}}])
async def test_an_answer_that_is_none_is_refused_and_the_question_stands(acme, client, worker, response):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="refused")
        await worker.run_all()
        answer = await mcp.send("tasks/update", {"taskId": task["taskId"], "inputResponses": {"first": response}})
        assert answer["error"]["code"] == -32602
        assert set((await mcp.get(task))["inputRequests"]) == {"first", "second"}


async def test_answers_have_a_bound(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="long")
        await worker.run_all()
        answer = await mcp.answer(task, first={"name": "x" * 70_000})
        assert answer["error"]["code"] == -32602
        assert (await mcp.get(task))["status"] == "input_required"


async def test_a_client_that_cannot_be_asked_gets_a_result_that_says_so(acme, client, worker):
    async with client(acme, extensions={EXTENSION: {}}) as mcp:
        task = await mcp.call("ask_twice", word="alone")
        await worker.run_all()
        ended = await mcp.get(task)
    assert ended["result"]["isError"] is True
    assert "cannot ask" in ended["result"]["content"][0]["text"]


async def test_what_is_asked_before_a_task_is_asked_in_the_call_and_known_in_the_task(acme, client, worker):
    async with client(acme) as mcp:
        asked = await mcp.call("greet", word="Hello")
        assert asked["resultType"] == "input_required"
        assert "taskId" not in asked
        params = {"name": "greet", "arguments": {"word": "Hello"}, "requestState": asked["requestState"]}
        params["inputResponses"] = {"whom": {"action": "accept", "content": {"name": "Ada"}}}
        task = (await mcp.send("tools/call", params))["result"]
        assert task["resultType"] == "task"
        assert "requestState" not in task
        await worker.run_all()
        ended = await mcp.get(task)
    assert ended["result"]["structuredContent"] == {"text": "Hello Ada"}


async def test_what_cannot_be_undone_is_confirmed_before_there_is_a_task_and_only_once(acme, client, worker):
    async with client(acme) as mcp:
        asked = await mcp.call("wipe", word="gone")
        assert await worker.run_all() == 0
        [(key, _)] = asked["inputRequests"].items()
        params = {"name": "wipe", "arguments": {"word": "gone"}, "requestState": asked["requestState"]}
        params["inputResponses"] = {key: {"action": "accept", "content": {"confirm": True}}}
        task = (await mcp.send("tools/call", params))["result"]
        again = (await mcp.send("tools/call", params))["result"]
        assert again["taskId"] == task["taskId"]  # one answer, one effect
        assert await worker.run_all() == 1
        ended = await mcp.get(task)
    assert ended["result"]["structuredContent"] == {"text": "wiped gone"}
    assert probe.gates["gone"].runs == 1


async def test_a_call_with_the_same_key_gets_the_same_task(acme, client, worker, kept):
    meta = {"mercato/idempotency-key": "once"}
    async with client(acme) as mcp:
        first = await mcp.call("keep", meta, word="keyed")
        second = await mcp.call("keep", meta, word="keyed")
    assert first["taskId"] == second["taskId"]
    assert "mercato/replayed" in second["_meta"]
    assert await worker.run_all() == 1
    assert await kept(acme) == ["keyed-1"]


async def test_a_task_that_has_not_begun_is_cancelled_at_once_and_for_good(acme, client, worker, kept):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="never")
        assert _is_ack(await mcp.cancel(task))
        assert _is_ack(await mcp.cancel(task))
        ended = await mcp.get(task)
    assert ended["status"] == "cancelled"
    assert await worker.run_all() == 0
    assert await kept(acme) == []


async def test_a_task_that_waits_for_an_answer_is_cancelled_at_once(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="left")
        await worker.run_all()
        await mcp.cancel(task)
        assert (await mcp.get(task))["status"] == "cancelled"
        await mcp.answer(task, first={"name": "a"}, second={"name": "b"})
        assert (await mcp.get(task))["status"] == "cancelled"
    assert await worker.run_all() == 0


async def test_a_task_that_runs_is_stopped_and_what_it_wrote_undone(acme, client, worker, kept):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="stopped", held=True)
        running = asyncio.create_task(worker.run_all())
        await asyncio.wait_for(probe.gates["stopped"].started.wait(), 10)
        await mcp.cancel(task)
        await worker.service.running.renew()  # the next beat
        await running
        ended = await mcp.get(task)
    assert ended["status"] == "cancelled"
    assert "result" not in ended
    assert await kept(acme) == []


async def test_a_run_that_its_worker_lost_has_one_effect(acme, background, client, worker, other_worker, kept):
    pool = background.runtime.database.pool
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="lost", held=True)
        running = asyncio.create_task(worker.run_all())
        await asyncio.wait_for(probe.gates["lost"].started.wait(), 10)
        await pool.fetch(
            "update mercato.jobs set lease_until = now() where state = 'running' and tenant_id = $1", acme.id
        )
        assert await ledger_work.reap(pool) == 1
        probe.gates["lost"].started.clear()
        again = asyncio.create_task(other_worker.run_all())
        await asyncio.wait_for(probe.gates["lost"].started.wait(), 10)
        probe.gates["lost"].free.set()
        await asyncio.gather(again, running)
        ended = await mcp.get(task)
    assert ended["status"] == "completed"
    assert len(await kept(acme)) == 1
    assert probe.gates["lost"].runs == 2


async def test_a_credential_that_was_revoked_runs_nothing(acme, background, client, worker, kept):
    runtime = background.runtime
    async with client(acme) as mcp:
        await mcp.call("keep", word="revoked")
    async with runtime.database.tenant(acme.id) as db:
        key = (await list_keys(db))[0]
        await revoke_key(db, key.id)
    await worker.run_all()
    async with runtime.database.tenant(acme.id) as db:
        [(state, error)] = await db.rows(select(JobRun.state, JobRun.error))
    assert state == "dead"
    assert "not good any more" in error
    assert await kept(acme) == []


async def test_what_was_switched_off_meanwhile_neither_runs_nor_is_shown(acme, background, client, worker, kept):
    runtime = background.runtime
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="off")
        asked = await mcp.call("ask_twice", word="off")
        await _switch(runtime, acme, disable_category)
        await worker.run_all()
        for method, more in (("tasks/get", {}), ("tasks/update", {"inputResponses": {}})):
            answer = await mcp.send(method, {"taskId": asked["taskId"], **more})
            assert answer["error"]["code"] == -32602
        assert _is_ack(await mcp.cancel(asked))
        await _switch(runtime, acme, enable_category)
        ended = await mcp.get(task)
    assert ended["result"]["isError"] is True
    assert "switched" in ended["result"]["content"][0]["text"]
    assert await kept(acme) == []


async def _switch(runtime, tenant, act):
    async with runtime.database.tenant(tenant.id) as db:
        await act(db, "background")
    await runtime.changes.publish(Change("access", tenant.id))


async def test_a_narrower_address_shows_no_task_of_what_it_does_not_serve(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="reach")
        await worker.run_all()
        responses = {"inputResponses": {"first": {"action": "decline"}}}
        for method, more in (("tasks/get", {}), ("tasks/update", responses)):
            body, headers = envelope(method, {"taskId": task["taskId"], **more}, **mcp.capabilities)
            answer = await mcp.http.post("/mcp/readonly", json=body, headers={**headers, "mcp-name": task["taskId"]})
            assert answer.json()["error"]["code"] == -32602
        assert set((await mcp.get(task))["inputRequests"]) == {"first", "second"}


async def test_the_database_going_away_in_a_run_is_no_result(acme, background, client, worker, monkeypatch, kept):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="outage")

        async def fail(*arguments):
            raise ConnectionError("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(ledger_work, "finish_within", fail)
            await worker.run_all()
        assert (await mcp.get(task))["status"] == "working"
        assert await kept(acme) == []
        await background.runtime.database.pool.fetch("update mercato.jobs set due_at = now() where state = 'retrying'")
        await worker.run_all()
        ended = await mcp.get(task)
    assert ended["status"] == "completed"
    assert len(await kept(acme)) == 1


async def test_what_a_run_spends_counts_for_the_tenant_and_the_run(acme, background, client, worker):
    async with client(acme) as mcp:
        await mcp.call("spend", cents=7)
        await worker.run_all()
    async with background.runtime.database.tenant(acme.id) as db:
        [(cents,)] = await db.rows(select(JobRun.cost_cents))
    assert cents == 7


async def test_progress_is_what_a_task_says_of_itself(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("keep", word="far", held=True)
        running = asyncio.create_task(worker.run_all())
        await asyncio.wait_for(probe.gates["far"].started.wait(), 10)
        shown = await mcp.get(task)
        while "statusMessage" not in shown:
            shown = await mcp.get(task)
        probe.gates["far"].free.set()
        await running
    assert shown["statusMessage"] == "kept far"


async def test_progress_that_no_json_can_say_hurts_nobody(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("mumble")
        running = asyncio.create_task(worker.run_all())
        while "statusMessage" not in (shown := await mcp.get(task)):
            assert shown["status"] == "working"
        await running
        assert (await mcp.get(task))["status"] == "completed"
    assert shown["statusMessage"] == "ab" + "c" * 498


async def test_times_of_a_task_only_go_forward(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="times")
        seen = [task, await mcp.get(task)]
        await worker.run_all()
        seen.append(await mcp.get(task))
        await mcp.answer(task, first={"name": "a"})
        seen.append(await mcp.get(task))
        await mcp.cancel(task)
        seen.append(await mcp.get(task))
    assert {one["createdAt"] for one in seen} == {task["createdAt"]}
    changed = [one["lastUpdatedAt"] for one in seen]
    assert changed == sorted(changed)


async def test_a_number_beyond_64_bits_is_an_answer_like_others(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_number")
        await worker.run_all()
        assert _is_ack(await mcp.answer(task, number={"value": 2**70}))
        await worker.run_all()
        ended = await mcp.get(task)
    assert ended["result"]["structuredContent"] == {"text": str(2**70)}


@pytest.mark.parametrize("content", [{}, {"name": 5}, {"name": None}, {"nome": "x"}])
async def test_an_answer_that_does_not_fit_is_refused_with_the_field_and_the_question_stands(
    acme, client, worker, content
):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="unfit")
        await worker.run_all()
        answer = await mcp.answer(task, first=content)
        assert answer["error"]["code"] == -32602
        assert "'first'" in answer["error"]["message"]
        assert "name" in answer["error"]["message"]
        assert set((await mcp.get(task))["inputRequests"]) == {"first", "second"}


async def test_a_tool_that_only_runs_as_a_task_says_so(acme, client):
    async with client(acme) as mcp:
        tools = {tool["name"]: tool["description"] for tool in (await mcp.send("tools/list", {}))["result"]["tools"]}
    assert "only as a task" in tools["look"]
    assert "only as a task" not in tools["keep"]


async def test_an_answer_that_cannot_be_stored_is_refused(acme, client, worker):
    async with client(acme) as mcp:
        task = await mcp.call("ask_twice", word="nul")
        await worker.run_all()
        answer = await mcp.answer(task, first={"name": "a\0b"})
        assert answer["error"]["code"] == -32602
        assert set((await mcp.get(task))["inputRequests"]) == {"first", "second"}


async def test_open_tasks_are_bounded_for_each_credential_and_for_all_however_many_come_at_once(
    acme, client, worker, monkeypatch
):
    monkeypatch.setattr(store, "MOST_OPEN", 3)
    monkeypatch.setattr(store, "MOST_OF_ONE", 2)
    async with client(acme) as one, client(acme) as other:
        for mcp, most in ((one, 2), (other, 1)):
            calls = [mcp.call("keep", word=f"{most}-{number}") for number in range(6)]
            begun = [task for task in await asyncio.gather(*calls) if task.get("resultType") == "task"]
            assert len(begun) == most
        await worker.run_all()


async def test_one_task_too_many_is_refused_in_words(acme, client, worker, monkeypatch):
    monkeypatch.setattr(store, "MOST_OF_ONE", 2)
    async with client(acme) as mcp:
        tasks = [await mcp.call("keep", word=word) for word in ("a", "b", "c")]
        assert [task.get("resultType") for task in tasks[:2]] == ["task", "task"]
        assert tasks[2]["isError"] is True
        assert tasks[2]["_meta"]["mercato/error"]["limit"] == "open_tasks"
        await worker.run_all()
        assert (await mcp.call("keep", word="d"))["resultType"] == "task"


async def test_through_the_search_surface_a_tool_is_a_task_too(acme, client, worker):
    async with client(acme) as mcp:
        params = {"name": "execute_write", "arguments": {"name": "keep", "arguments": {"word": "found"}}}
        body = await mcp.http.post("/mcp?surface=search", json=_body(mcp, params), headers=_headers("execute_write"))
        task = body.json()["result"]
        assert task["resultType"] == "task"
        await worker.run_all()
        ended = await mcp.get(task)
    assert ended["result"]["structuredContent"]["text"].startswith("found")


def _body(mcp, params):
    return envelope("tools/call", params, **mcp.capabilities)[0]


def _headers(name):
    return {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": name}


async def test_only_the_modern_era_is_told_of_the_extension(acme, background):
    async with background.client(await background.key(acme)) as http:
        discovered = (await modern(http, "server/discover")).json()["result"]["capabilities"]
        greeted = (await legacy(http, "initialize", HELLO))["result"]["capabilities"]
    assert discovered["extensions"] == {EXTENSION: {}}
    assert "extensions" not in greeted
    assert "tasks" not in discovered | greeted
