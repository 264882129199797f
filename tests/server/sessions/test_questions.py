"""Questions: put on the stream of the call, answered at any replica, by its own session and nobody else."""

from __future__ import annotations

from typing import Any

import anyio

from mercato.server.mcp.sessions import names
from tests.server.conftest import HELLO, Site
from tests.server.sessions.client import call, request
from tests.server.sessions.conftest import parts_of


def answered(question: dict[str, Any], content: Any = None) -> dict[str, Any]:
    result = {"action": "accept", "content": content or {"name": "Ada"}}
    return {"jsonrpc": "2.0", "id": question["id"], "result": result}


async def test_a_question_is_answered_at_another_replica(a: Site, b: Site, c: Site, connect):
    client = await (await connect()).open(a)
    async with client.streamed(b, call("ask")) as stream:
        question = await stream.message()
        reply = await client.post(c, answered(question))
        answer = await stream.message()
    assert (question["method"], question["params"]["message"]) == ("elicitation/create", "Who are you?")
    assert (reply.status_code, reply.content) == (202, b"")
    assert answer["result"]["structuredContent"] == {"text": "Hello, Ada!"}


async def test_an_answer_counts_once_and_only_in_its_own_session(a: Site, b: Site, connect, other_shop):
    client, colleague = await (await connect()).open(a), await (await connect()).open(b)
    stranger = await (await connect(other_shop)).open(b)
    async with client.streamed(a, call("ask")) as stream:
        question = await stream.message()
        for other in (colleague, stranger):
            for site in (a, b):
                assert (await other.post(site, answered(question, {"name": "Eve"}))).status_code == 202
        await client.post(b, answered(question))
        await client.post(a, answered(question, {"name": "Bob"}))
        answer = await stream.message()
    assert answer["result"]["structuredContent"] == {"text": "Hello, Ada!"}
    assert not await a.runtime.redis.exists(names.part_key(client.session_id, "waits"))


async def test_an_answer_that_nobody_waits_for_is_taken_in_and_nothing_more(a: Site, connect):
    client = await (await connect()).open(a)
    for body in (answered({"id": "never-asked"}), answered({"id": 5}), {"jsonrpc": "2.0", "id": None, "result": {}}):
        response = await client.post(a, body)
        assert response.status_code in {202, 400}
    assert not await a.runtime.redis.exists(names.part_key(client.session_id, "replies"))


async def test_a_refusal_of_the_client_is_the_callers_to_handle(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    async with client.streamed(a, call("roots")) as stream:
        question = await stream.message()
        error = {"code": -32601, "message": "I have no roots."}
        await client.post(b, {"jsonrpc": "2.0", "id": question["id"], "error": error})
        answer = await stream.message()
    assert answer["error"] == error


async def test_what_the_sdk_asks_on_the_session_s_stream_comes_where_somebody_listens(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    async with client.streamed(a, call("roots")) as stream:
        question = await stream.message()
        found = {"roots": [{"uri": "file:///home/ada"}]}
        await client.post(b, {"jsonrpc": "2.0", "id": question["id"], "result": found})
        answer = await stream.message()
    assert question["method"] == "roots/list"
    assert answer["result"]["content"][0]["text"] == "file:///home/ada"


async def test_a_client_that_does_not_answer_in_time_is_told_that_nobody_waits(a: Site, connect, bounds):
    bounds(question_s=0.05)
    client = await (await connect()).open(a)
    async with client.streamed(a, call("roots")) as stream:
        question, withdrawn, answer = [await stream.message() for _ in range(3)]
    assert withdrawn["method"] == "notifications/cancelled"
    assert withdrawn["params"]["requestId"] == question["id"]
    assert answer["error"]["code"] == -32001
    assert not await a.runtime.redis.exists(names.part_key(client.session_id, "waits"))


async def test_a_cancelled_call_withdraws_its_question(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    async with client.streamed(a, call("ask", 3)) as stream:
        await stream.message()
        await client.notify(b, "notifications/cancelled", {"requestId": 3})
        answers = [event.message for event in await stream.rest() if event.data]
    assert answers[-1]["error"]["code"] == -32800


async def test_how_far_the_client_is_reaches_who_asked(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    parts, heard = parts_of(a), []
    reported = anyio.Event()

    async def report(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total, message))
        reported.set()

    async def write(message: bytes, question: str) -> None:
        await parts.streams.append(client.session_id, names.STANDALONE, [message], question=question)

    async def ask() -> None:
        await parts.questions.ask(client.session_id, write, "ping", None, {"on_progress": report})

    async with client.listening(b) as stream, anyio.create_task_group() as group:
        group.start_soon(ask)
        question = await stream.message()
        token = question["params"]["_meta"]["progressToken"]
        await client.notify(b, "notifications/progress", {"progressToken": token, "progress": 1, "total": 2})
        with anyio.fail_after(5):
            await reported.wait()
        await client.post(b, {"jsonrpc": "2.0", "id": question["id"], "result": {}})
    assert heard == [(1.0, 2, None)]


async def test_an_answer_that_came_while_the_reader_was_away_is_found_afterwards(a: Site, b: Site, connect):
    client = await (await connect()).open(a)
    reader = parts_of(a).reader
    async with client.streamed(a, call("ask")) as stream:
        question = await stream.message()
        await reader._connection.disconnect(nowait=True)
        await client.post(b, answered(question))
        assert (await stream.message())["result"]["structuredContent"] == {"text": "Hello, Ada!"}


async def test_a_question_can_be_answered_after_its_stream_was_resumed_elsewhere(a: Site, b: Site, c: Site, connect):
    client = await (await connect()).open(a)
    async with client.streamed(a, call("ask")) as stream:
        primed = await stream.next()
        await stream.message()
    async with client.listening(b, primed.id) as stream:
        question = await stream.message()
        await client.post(c, answered(question))
        assert (await stream.message())["result"]["structuredContent"] == {"text": "Hello, Ada!"}


async def test_a_client_that_cannot_ask_is_not_asked(a: Site, connect):
    client = await (await connect()).open(a, HELLO)
    answer = (await client.post(a, request("tools/call", {"name": "ask"}))).json()["result"]
    assert answer["isError"]
