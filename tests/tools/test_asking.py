"""Questions to the person at the other end, in both protocol eras, and what happens where nobody can be asked."""

from __future__ import annotations

import anyio
import mcp_types as mcp
import pytest
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field
from sqlmodel import select

from mercato import Category, ToolContext
from mercato.server.changes import Change
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.access import merge_settings
from mercato.tenancy.grants import DisabledTool
from tests.inmemory import client_of, plugin

probe = Category("probe", "For the tests.")
TIMEOUT_S = 0.3


class Answer(BaseModel):
    text: str


class Colour(BaseModel):
    colour: str = Field(description="Which colour.")
    sure: bool = True


@probe.tool(read_only=False, destructive=True, title="Erase the name")
async def erase(ctx: ToolContext, name: str, password: str = "") -> Answer:
    """Erase."""
    ctx.db.session.add(DisabledTool(tool=name))
    return Answer(text="erased")


@probe.tool(read_only=False, timeout_s=TIMEOUT_S)
async def choose(ctx: ToolContext) -> Answer:
    """Choose."""
    chosen = await ctx.ask("Which colour?", Colour)
    ctx.db.session.add(DisabledTool(tool=chosen.colour))
    return Answer(text=chosen.colour)


@probe.tool(read_only=False, destructive=True)
async def choose_twice(ctx: ToolContext) -> Answer:
    """Choose two colours, after having confirmed."""
    first = await ctx.ask("The first colour?", Colour)
    second = await ctx.ask("The second colour?", Colour, key="second")
    return Answer(text=f"{first.colour}, {second.colour}")


@probe.tool(read_only=False)
async def ask_late(ctx: ToolContext) -> Answer:
    """Ask after the database was used."""
    await ctx.db.rows(select(DisabledTool))
    await ctx.ask("Too late?", Colour)
    return Answer(text="never")


@probe.tool(read_only=True)
async def report(ctx: ToolContext) -> Answer:
    """Tell how far it is."""
    await ctx.progress(1, 2, "half")
    await ctx.progress(2, 2)
    return Answer(text="done")


@probe.tool(read_only=True, timeout_s=TIMEOUT_S)
async def ask_and_hang(ctx: ToolContext) -> Answer:
    """Ask, then hang."""
    await ctx.ask("And then?", Colour)
    await anyio.Event().wait()
    return Answer(text="never")


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings, found = Settings(data_dir=tmp_path_factory.mktemp("data")), [plugin("probe", register_categories=[probe])]
    async with open_runtime(settings, mercato_addresses, found=found, strict=True) as opened:
        yield opened


@pytest.fixture
async def acme(runtime, new_tenant):
    return await new_tenant(runtime)


@pytest.fixture(params=["legacy", "auto"])
def mode(request):
    return request.param


@pytest.fixture
def kept(runtime, acme):
    async def read():
        async with runtime.database.tenant(acme.id) as db:
            return [row.tool for row in await db.rows(select(DisabledTool))]

    return read


class Person:
    """Answers questions in the order given; None declines, an exception's name cancels."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.questions = []

    async def __call__(self, context, params):
        self.questions.append(params)
        answer = self.answers.pop(0)
        if answer is None:
            return mcp.ElicitResult(action="decline")
        if answer == "cancel":
            return mcp.ElicitResult(action="cancel")
        return mcp.ElicitResult(action="accept", content=answer)


async def test_a_destructive_tool_asks_the_person_and_acts_when_they_agree(runtime, acme, mode, kept):
    person = Person({"confirm": True})
    async with client_of(runtime, acme, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("erase", {"name": "orders", "password": "hunter2"})
    assert result.structured_content == {"text": "erased"}
    assert await kept() == ["orders"]
    [question] = person.questions
    assert question.message.startswith("Erase the name: ")
    assert '"orders"' in question.message
    assert "hunter2" not in question.message
    assert list(question.requested_schema["properties"]) == ["confirm"]


@pytest.mark.parametrize("answer", [None, "cancel", {"confirm": False}, {}, {"confirm": "perhaps"}])
async def test_a_destructive_tool_changes_nothing_when_the_person_does_not_agree(runtime, acme, mode, kept, answer):
    async with client_of(runtime, acme, mode=mode, elicitation_callback=Person(answer)) as client:
        result = await client.call_tool("erase", {"name": "orders"})
    assert result.meta["mercato/error"]["code"] == "declined"
    assert "nothing was changed" in result.content[0].text
    assert await kept() == []


async def test_confirm_does_not_stand_in_for_the_person_where_they_can_be_asked(runtime, acme, mode, kept):
    person = Person(None)
    async with client_of(runtime, acme, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("erase", {"name": "orders", "confirm": True})
    assert len(person.questions) == 1
    assert result.is_error
    assert await kept() == []


@pytest.mark.parametrize("confirm", [{}, {"confirm": False}, {"confirm": "yes"}])
async def test_where_nobody_can_be_asked_a_destructive_tool_wants_confirm(runtime, acme, mode, kept, confirm):
    async with client_of(runtime, acme, mode=mode) as client:
        result = await client.call_tool("erase", {"name": "orders", **confirm})
        assert result.meta["mercato/error"] == {
            "code": "confirmation_needed",
            "retryable": False,
            "field": "confirm",
        }
        assert "call again with `confirm: true`" in result.content[0].text
        assert await kept() == []
        assert not (await client.call_tool("erase", {"name": "orders", "confirm": True})).is_error
    assert await kept() == ["orders"]


@pytest.fixture
async def unconfirmed(runtime, acme):
    """The tenant, which wants no questions in the category of these tools."""
    async with runtime.database.tenant(acme.id) as db:
        await merge_settings(db, "assistant", {"unconfirmed_categories": ["probe", "gone"]})
    await runtime.changes.publish(Change("access", acme.id))
    return acme


async def test_a_category_that_the_tenant_leaves_unconfirmed_is_not_asked_about(runtime, unconfirmed, mode, kept):
    person = Person()
    async with client_of(runtime, unconfirmed, mode=mode, elicitation_callback=person) as client:
        assert not (await client.call_tool("erase", {"name": "one"})).is_error
        assert not (await client.call_tool("erase", {"name": "two", "confirm": False})).is_error
    assert person.questions == []
    assert await kept() == ["one", "two"]


async def test_an_unconfirmed_category_needs_no_confirm_and_its_tools_still_take_it(runtime, unconfirmed, mode, kept):
    async with client_of(runtime, unconfirmed, mode=mode) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "confirm" in listed["erase"].input_schema["properties"]
        assert not (await client.call_tool("erase", {"name": "one"})).is_error
        assert not (await client.call_tool("erase", {"name": "two", "confirm": True})).is_error
    assert await kept() == ["one", "two"]


async def test_what_one_tenant_leaves_unconfirmed_is_confirmed_for_another(runtime, unconfirmed, new_tenant, mode):
    other = await new_tenant(runtime, "Globex")
    async with client_of(runtime, other, mode=mode) as client:
        result = await client.call_tool("erase", {"name": "one"})
    assert result.meta["mercato/error"]["code"] == "confirmation_needed"


async def test_a_question_of_a_tool_itself_is_asked_in_an_unconfirmed_category_too(runtime, unconfirmed, mode):
    person = Person({"colour": "red"}, {"colour": "blue"})
    async with client_of(runtime, unconfirmed, mode=mode, elicitation_callback=person) as client:
        assert (await client.call_tool("choose_twice")).structured_content == {"text": "red, blue"}
    assert len(person.questions) == 2


async def test_where_nobody_can_be_asked_the_model_is_told_the_question_and_what_it_wants(runtime, acme, mode):
    async with client_of(runtime, acme, mode=mode) as client:
        result = await client.call_tool("choose")
    text = result.content[0].text
    assert "this client cannot ask them: Which colour?" in text
    assert "`colour` (Which colour.), `sure`" in text
    assert "Ask them yourself, then call again with the answer" in text


async def test_a_tool_gets_the_answer_as_a_model(runtime, acme, mode, kept):
    person = Person({"colour": "red"})
    async with client_of(runtime, acme, mode=mode, elicitation_callback=person) as client:
        assert (await client.call_tool("choose")).structured_content == {"text": "red"}
    assert await kept() == ["red"]
    assert person.questions[0].requested_schema["properties"]["colour"]["description"] == "Which colour."


async def test_a_tool_that_must_ask_says_so_where_nobody_can_be_asked(runtime, acme, mode):
    async with client_of(runtime, acme, mode=mode) as client:
        result = await client.call_tool("choose")
    assert result.meta["mercato/error"]["code"] == "confirmation_needed"


async def test_several_questions_of_one_call_are_each_asked_once_and_keep_their_answers(runtime, acme, mode):
    person = Person({"confirm": True}, {"colour": "red"}, {"colour": "blue"})
    async with client_of(runtime, acme, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("choose_twice")
    assert result.structured_content == {"text": "red, blue"}
    assert [question.message.partition(":")[0] for question in person.questions] == [
        "Choose twice",
        "The first colour?",
        "The second colour?",
    ]


async def test_asking_after_the_database_was_used_is_a_fault_of_the_tool(runtime, acme, mode):
    person = Person()
    async with client_of(runtime, acme, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("ask_late")
    assert result.meta["mercato/error"]["code"] == "internal_fault"
    assert person.questions == []


async def test_the_wait_for_the_person_does_not_count_towards_the_time_out(runtime, acme, mode):
    async def think(context, params):
        began = anyio.current_time()
        while anyio.current_time() - began < 2 * TIMEOUT_S:
            await anyio.sleep(TIMEOUT_S / 10)
        return mcp.ElicitResult(action="accept", content={"colour": "red"})

    async with client_of(runtime, acme, mode=mode, elicitation_callback=think) as client:
        assert (await client.call_tool("choose")).structured_content == {"text": "red"}


async def test_the_time_out_holds_again_once_the_person_has_answered(runtime, acme, mode):
    person = Person({"colour": "red"})
    async with client_of(runtime, acme, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("ask_and_hang")
    assert result.meta["mercato/error"]["code"] == "timed_out"


async def test_an_answer_for_one_call_is_no_good_for_another(runtime, acme):
    async def never(context, params):
        raise AssertionError("the client answers by hand here")

    async with client_of(runtime, acme, elicitation_callback=never) as client:
        asked = await client.session.call_tool("erase", {"name": "one"}, allow_input_required=True)
        answers = {key: mcp.ElicitResult(action="accept", content={"confirm": True}) for key in asked.input_requests}
        with pytest.raises(MCPError):
            await client.session.call_tool(
                "erase", {"name": "two"}, input_responses=answers, request_state=asked.request_state
            )


async def test_progress_arrives(runtime, acme, mode):
    seen = []

    async def note(done, total, message):
        seen.append((done, total, message))

    async with client_of(runtime, acme, mode=mode) as client:
        await client.call_tool("report", progress_callback=note)
        await client.call_tool("report")
    assert seen == [(1, 2, "half"), (2, 2, None)]
