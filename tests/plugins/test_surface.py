"""The search surface: what is listed, how what was found is run, and that the gate is the same either way."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Annotated

import mcp_types as mcp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field
from sqlmodel import select

from mercato import Category, Reply, ToolContext, ToolError
from mercato.plugins.catalog import ScopeMissing, Unknown
from mercato.plugins.surface import UnknownSurface, asked_surface, surface_of
from mercato.plugins.tool_search import find
from mercato.server.changes import Change
from mercato.server.mcp.wire import wire_tool
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.access import merge_settings
from mercato.tenancy.assistant import AssistantSettings
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.grants import DisabledTool, disable_tool
from mercato.tenancy.memberships import Role
from mercato.tenancy.principal import READ, WRITE
from mercato.tenancy.reach import Reach
from tests.inmemory import client_of, plugin
from tests.plugins.seen import catalog_of, seen

OWN = ["search_tools", "execute_read", "execute_write"]
MOST_TOKENS, BYTES_PER_TOKEN = 1_500, 3.9

shelf = Category("shelf", "What stands on shelves.")
till = Category("till", "What is paid.")


class Answer(BaseModel):
    text: str


@shelf.tool(read_only=True, aliases=("count_books",))
async def count_shelf(ctx: ToolContext, shelf: Annotated[int, Field(ge=1, description="Which shelf.")] = 1) -> Answer:
    """Count what stands on a shelf."""
    return Answer(text=f"{ctx.tenant.name}: {shelf * 10}")


@shelf.tool(read_only=True)
async def show_cover(ctx: ToolContext) -> Reply:
    """Show a cover."""
    image = mcp.ImageContent(data="AAAA", mime_type="image/png")
    return Reply(Answer(text="cover"), content=[image], meta={"size": 1})


@shelf.tool(read_only=True)
async def look_behind(ctx: ToolContext) -> Answer:
    """Look where nothing is."""
    raise ToolError("There is nothing behind it.", field="shelf", next_step="Look elsewhere.")


@shelf.tool(read_only=False)
async def label_shelf(ctx: ToolContext, name: str) -> Answer:
    """Put a label on a shelf."""
    ctx.db.session.add(DisabledTool(tool=name))
    return Answer(text=name)


@till.tool(read_only=False, destructive=True, open_world=True)
async def empty_till(ctx: ToolContext, reason: str) -> Answer:
    """Take everything out of the till."""
    return Answer(text=reason)


@till.tool(read_only=True, admin=True)
async def count_till(ctx: ToolContext) -> Answer:
    """Count what is in the till."""
    return Answer(text="0")


@till.tool(read_only=True, requires=("bank",))
async def check_bank(ctx: ToolContext) -> Answer:
    """Ask the bank."""
    return Answer(text="nothing")


@till.raw_tool(input_schema={"type": "object"}, read_only=True)
async def speak_raw(raw, arguments):
    """Say how it was called."""
    called = [raw.params.name, raw.params.arguments or {}, arguments]
    return mcp.CallToolResult(content=[mcp.TextContent(text=orjson.dumps(called).decode())])


CATALOG = catalog_of(shelf, till)
SURFACE_ASKS = [
    (b"", None),
    (b"x=1", None),
    (b"surface=full", "full"),
    (b"x=1&surface=search", "search"),
    (b"surface=%73earch", "search"),
    (b"surface=search&surface=search", "search"),
]


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), database_pool=4)
    found = [plugin("probe", register_categories=[shelf, till])]
    async with open_runtime(settings, mercato_addresses, found=found, strict=True) as opened:
        yield opened


@pytest.fixture
def decide(runtime):
    """Set what a tenant decides about its assistants: `await decide(tenant, surface="search")`."""

    async def store(tenant, **settings):
        async with runtime.database.tenant(tenant.id) as db:
            await merge_settings(db, "assistant", settings)
        await runtime.changes.publish(Change("access", tenant.id))

    return store


@pytest.fixture
async def acme(runtime, new_tenant, decide):
    """A tenant on the search surface."""
    tenant = await new_tenant(runtime)
    await decide(tenant, surface="search")
    return tenant


@pytest.fixture(params=["legacy", "auto"])
def mode(request):
    return request.param


@pytest.fixture
async def client(runtime, acme, mode):
    async with client_of(runtime, acme, mode=mode) as opened:
        yield opened


async def names(client):
    return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize(("query", "surface"), SURFACE_ASKS)
def test_a_url_may_ask_for_a_surface(query, surface):
    assert asked_surface(query) == surface


@pytest.mark.parametrize(
    "query", [b"surface=", b"surface", b"surface=Full", b"surface=all", b"surface=full&surface=search", b"surface=%ff"]
)
def test_any_other_surface_is_refused_with_the_names_of_the_two(query):
    with pytest.raises(UnknownSurface, match="`full` or `search`"):
        asked_surface(query)


@given(query=st.binary(max_size=60))
def test_any_query_is_read_or_refused(query):
    try:
        assert asked_surface(query) in {None, "full", "search"}
    except UnknownSurface:
        assert b"surface" in query or b"%" in query


@pytest.mark.parametrize(
    ("asked", "client", "own", "surface"),
    [
        (None, None, "full", "full"),
        (None, "cursor", "full", "search"),
        (None, "claude", "full", "full"),
        (None, "claude", "search", "search"),
        ("full", "cursor", "search", "full"),
        ("search", "claude", "full", "search"),
    ],
)
def test_the_url_comes_before_the_client_and_the_client_before_the_tenant(asked, client, own, surface):
    access = SimpleNamespace(assistant=AssistantSettings(surface=own, search_clients=("cursor",)))
    assert surface_of(asked, client, access) == surface


async def test_the_full_surface_is_the_default_and_knows_nothing_of_the_search(runtime, new_tenant, mode):
    tenant = await new_tenant(runtime)
    async with client_of(runtime, tenant, mode=mode) as client:
        listed = await names(client)
        assert set(listed) == set(runtime.catalog.tools) - {"check_bank"}
        for name in OWN:
            with pytest.raises(MCPError, match="There is no tool"):
                await client.call_tool(name, {"name": "count_shelf"})


async def test_the_search_surface_lists_its_three_tools_then_those_that_are_pinned(client, decide, acme):
    assert await names(client) == OWN
    await decide(acme, pinned_tools=["speak_raw", "check_bank", "gone_tool", "count_books", "count_shelf"])
    assert await names(client) == [*OWN, "speak_raw", "count_shelf"]


async def test_a_switch_shows_at_the_next_list(client, decide, acme):
    await decide(acme, surface="full")
    assert "count_shelf" in await names(client)
    await decide(acme, surface="search")
    assert await names(client) == OWN


async def test_what_one_tenant_decides_is_not_decided_for_another(runtime, acme, new_tenant, decide, mode):
    other = await new_tenant(runtime, "Globex")
    await decide(acme, pinned_tools=["count_shelf"])
    async with client_of(runtime, other, mode=mode) as client:
        assert set(await names(client)) >= {"count_shelf", "empty_till"}
        assert OWN[0] not in await names(client)


async def test_a_client_that_is_on_the_list_gets_the_search_surface(runtime, new_tenant, decide, mode):
    tenant = await new_tenant(runtime)
    await decide(tenant, search_clients=["cursor"])
    for name, expected in {"cursor": True, "claude": False}.items():
        info = mcp.Implementation(name=name, version="1")
        async with client_of(runtime, tenant, mode=mode, client_info=info) as client:
            assert ("search_tools" in await names(client)) is expected


async def test_every_tool_can_be_called_by_its_own_name_too(client):
    result = await client.call_tool("count_shelf", {"shelf": 2})
    assert result.structured_content == {"text": "Acme: 20"}


async def test_search_answers_with_what_execute_takes(client):
    found = (await client.call_tool("search_tools", {"query": "count books on a shelf"})).structured_content
    hit = found["tools"][0]
    assert (hit["name"], hit["execute"]) == ("count_shelf", "execute_read")
    assert hit["input_schema"]["properties"]["shelf"]["minimum"] == 1
    result = await client.call_tool(hit["execute"], {"name": hit["name"], "arguments": {"shelf": 3}})
    assert result.structured_content == {"text": "Acme: 30"}


async def test_search_validates_its_arguments_as_any_tool_does(client):
    result = await client.call_tool("search_tools", {"query": "till", "limit": 6})
    assert result.meta["mercato/error"]["field"] == "limit"


async def test_search_sees_what_the_tenant_has_on_now(client, runtime, acme):
    assert "label_shelf" in str((await client.call_tool("search_tools", {"query": "label"})).structured_content)
    async with runtime.database.tenant(acme.id) as db:
        await disable_tool(db, "label_shelf")
    await runtime.changes.publish(Change("access", acme.id))
    assert "label_shelf" not in str((await client.call_tool("search_tools", {"query": "label"})).structured_content)


@pytest.mark.parametrize(
    ("execute", "name", "arguments"),
    [
        ("execute_read", "count_shelf", {"shelf": 4}),
        ("execute_read", "count_shelf", {}),
        ("execute_read", "count_books", {"shelf": "5"}),
        ("execute_read", "count_shelf", {"shelf": 0}),
        ("execute_read", "count_shelf", {"shelves": 1}),
        ("execute_read", "count_shelf", {"shelf": {"deep": [" spaces "]}}),
        ("execute_read", "show_cover", {}),
        ("execute_read", "look_behind", {}),
        ("execute_read", "check_bank", {}),
        ("execute_write", "label_shelf", {}),
        ("execute_write", "empty_till", {"reason": "closing"}),
        ("execute_write", "empty_till", {"reason": "closing", "confirm": True}),
        ("execute_write", "empty_till", {"reason": "closing", "confirm": False}),
        ("execute_read", "speak_raw", {"any": [1, None]}),
    ],
)
async def test_what_is_executed_answers_as_it_does_when_called_itself(client, execute, name, arguments):
    itself = await client.call_tool(name, arguments)
    executed = await client.call_tool(execute, {"name": name, "arguments": arguments})
    assert executed.model_dump_json() == itself.model_dump_json()


async def test_what_is_not_there_is_unknown_in_the_same_words(client):
    said = []
    for call in (("count_shelfs", {}), ("execute_read", {"name": "count_shelfs"})):
        with pytest.raises(MCPError) as refusal:
            await client.call_tool(*call)
        said.append((refusal.value.error.code, refusal.value.error.message))
    assert said[0] == said[1] == (-32602, "There is no tool 'count_shelfs'. Did you mean `count_shelf`?")


async def test_a_write_that_is_executed_is_audited_under_its_own_name(client, runtime, acme):
    await client.call_tool("execute_write", {"name": "label_shelf", "arguments": {"name": "novels"}})
    async with runtime.database.tenant(acme.id) as db:
        entries = await db.rows(select(AuditEntry.action, AuditEntry.arguments))
        assert [row.tool for row in await db.rows(select(DisabledTool))] == ["novels"]
    assert ("label_shelf", {"name": "novels"}) in [tuple(entry) for entry in entries]
    assert not {"execute_write", "search_tools"} & {entry.action for entry in entries}


async def test_limits_and_usage_see_the_target_and_never_what_executed_it(client, runtime, monkeypatch):
    asked, settled = [], []
    ask_limits, settle = runtime.guard.ask_limits, runtime.guard.settle

    async def note_limits(principal, access, tool):
        asked.append((tool.name, tool.rate))
        await ask_limits(principal, access, tool)

    def note_use(call, *rest):
        settled.append((call.tool.name, call.tool.category, rest[0]))
        settle(call, *rest)

    monkeypatch.setattr(runtime.guard, "ask_limits", note_limits)
    monkeypatch.setattr(runtime.guard, "settle", note_use)
    await client.call_tool("execute_write", {"name": "label_shelf", "arguments": {"name": "poems"}})
    await client.call_tool("execute_read", {"name": "label_shelf"})  # refused before it is a call
    await client.call_tool("search_tools", {"query": "label"})
    assert asked == [("label_shelf", "write"), ("search_tools", "read")]
    assert settled == [("label_shelf", "shelf", "ok"), ("search_tools", "search", "ok")]


async def test_what_cannot_be_undone_is_asked_for_under_its_own_name(runtime, acme, mode):
    questions = []

    async def agree(context, params):
        questions.append(params.message)
        return mcp.ElicitResult(action="accept", content={"confirm": True})

    async with client_of(runtime, acme, mode=mode, elicitation_callback=agree) as client:
        call = {"name": "empty_till", "arguments": {"reason": "closing"}}
        assert (await client.call_tool("execute_write", call)).structured_content == {"text": "closing"}
    assert questions == ['Empty till: {"reason":"closing"}. This cannot be undone. Go on?']


async def test_a_category_that_needs_no_confirmation_needs_none_when_executed(client, decide, acme):
    await decide(acme, unconfirmed_categories=["till"])
    call = {"name": "empty_till", "arguments": {"reason": "closing"}}
    assert (await client.call_tool("execute_write", call)).structured_content == {"text": "closing"}


@pytest.mark.parametrize(
    ("execute", "arguments", "field", "said"),
    [
        ("execute_read", {"name": "label_shelf"}, "name", "`label_shelf` changes something"),
        ("execute_write", {"name": "count_shelf"}, "name", "`count_shelf` only reads"),
        ("execute_read", {"name": "execute_read", "arguments": {"name": "count_shelf"}}, "name", "called by itself"),
        ("execute_write", {"name": "execute_read"}, "name", "called by itself"),
        ("execute_read", {"name": "search_tools"}, "name", "called by itself"),
        ("execute_read", {}, "name", "`name` is missing: `search_tools` tells it."),
        ("execute_read", {"name": 7}, "name", "`name` must be a text."),
        ("execute_read", {"name": "count_shelf", "arguments": [1]}, "arguments", "must be an object"),
        ("execute_read", {"name": "count_shelf", "arguments": "{}"}, "arguments", "must be an object"),
        ("execute_read", {"name": "count_shelf", "shelf": 2}, "shelf", "`shelf` belongs inside `arguments`"),
        ("execute_write", {"name": "empty_till", "confirm": True}, "confirm", "belongs inside `arguments`"),
    ],
)
async def test_what_is_wrong_with_an_execution_says_what_is_right(client, execute, arguments, field, said):
    result = await client.call_tool(execute, arguments)
    assert result.is_error
    assert result.meta["mercato/error"]["field"] == field
    assert said in result.content[0].text


async def test_the_wrong_one_to_execute_names_the_right_one(client):
    read = await client.call_tool("execute_read", {"name": "empty_till", "arguments": {"confirm": True}})
    write = await client.call_tool("execute_write", {"name": "count_till"})
    assert "`execute_write`" in read.content[0].text
    assert "`execute_read`" in write.content[0].text


def test_only_who_may_write_where_something_writes_is_shown_what_writes():
    assert [tool.name for tool in seen(CATALOG).listed()] == OWN
    for view in (
        seen(CATALOG, role=Role.VIEWER),
        seen(CATALOG, scopes=frozenset({READ})),
        seen(CATALOG, reach=Reach(read_only=True)),
        seen(CATALOG, disabled_tools=frozenset({"label_shelf", "empty_till"})),
    ):
        assert [tool.name for tool in view.listed()] == OWN[:2]


def test_an_address_that_only_reads_or_has_few_categories_holds_for_search_pins_and_execution():
    pinned = ("count_shelf", "label_shelf", "count_till", "empty_till")
    shelf_only = seen(CATALOG, reach=Reach(categories=frozenset({"shelf"})), pinned_tools=pinned)
    assert [tool.name for tool in shelf_only.listed()] == [*OWN, "count_shelf", "label_shelf"]
    assert [one.category for one in find(shelf_only, "").categories] == ["shelf"]
    reads_only = seen(CATALOG, reach=Reach(read_only=True), pinned_tools=pinned)
    assert [tool.name for tool in reads_only.listed()] == [*OWN[:2], "count_shelf", "count_till"]
    assert "label_shelf" not in find(reads_only, "label shelf").model_dump_json()
    with pytest.raises(Unknown, match="at this address"):
        reads_only.resolve("execute_write", {"name": "label_shelf"})
    both = seen(CATALOG, reach=Reach(read_only=True, categories=frozenset({"till"})), pinned_tools=pinned)
    assert [tool.name for tool in both.listed()] == [*OWN[:2], "count_till"]


def test_a_scope_that_is_missing_is_asked_for_when_the_target_needs_it():
    with pytest.raises(ScopeMissing) as missing:
        seen(CATALOG, scopes=frozenset({READ})).resolve("execute_write", {"name": "label_shelf"})
    assert missing.value.scope == WRITE


def outcome(view, name, arguments):
    """What a call comes to before it begins: the tool and its arguments, or the refusal."""
    try:
        return view.resolve(name, arguments)
    except (Unknown, ScopeMissing, ToolError) as refusal:
        return type(refusal), str(refusal)


CALLERS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(Role),
        "scopes": st.frozensets(st.sampled_from([READ, WRITE])),
        "allowed": st.none() | st.frozensets(st.sampled_from(["shelf", "till"])),
        "categories": st.frozensets(st.sampled_from(["shelf", "till"])),
        "disabled_tools": st.frozensets(st.sampled_from(list(CATALOG.tools))),
        "integrations": st.frozensets(st.just("bank")),
        "pinned_tools": st.lists(st.sampled_from([*CATALOG.tools, "count_books", "gone"]), unique=True).map(tuple),
        "reach": st.builds(
            Reach, read_only=st.booleans(), categories=st.none() | st.frozensets(st.sampled_from(["shelf", "till"]))
        ),
    }
)


@given(caller=CALLERS, query=st.sampled_from(["count", "shelf", "till", "take everything", "bank raw cover", "what"]))
def test_what_is_listed_and_found_is_what_can_be_called_whoever_asks(caller, query):
    view = seen(CATALOG, **caller)
    may_call = {tool.name for tool in view.tools()}
    result = find(view, query)
    assert {hit.name for hit in result.tools} <= may_call
    assert len(result.tools) + result.left_out <= len(may_call)
    assert sum(one.tools for one in find(view, "").categories) == len(may_call)
    assert {tool.name for tool in view.listed()} - set(OWN) <= may_call
    for hit in result.tools:
        assert view.resolve(hit.execute, {"name": hit.name})[0] is view.tool(hit.name)


@given(caller=CALLERS, name=st.sampled_from([*CATALOG.tools, "count_books", "gone"]), arguments=st.just({"a": [1]}))
def test_executing_comes_to_the_same_as_calling_whoever_asks(caller, name, arguments):
    view = seen(CATALOG, **caller)
    tool = CATALOG.tool(name)
    execute = "execute_read" if tool is None or tool.read_only else "execute_write"
    assert outcome(view, execute, {"name": name, "arguments": arguments}) == outcome(view, name, arguments)


def test_hints_are_those_of_what_may_be_executed():
    read, write = (wire_tool(CATALOG.surface_tools[name]) for name in OWN[1:])
    assert read.annotations.read_only_hint
    assert not read.annotations.destructive_hint
    assert not write.annotations.read_only_hint
    assert write.annotations.destructive_hint
    assert write.annotations.open_world_hint
    assert not wire_tool(catalog_of(shelf).surface_tools["execute_write"]).annotations.open_world_hint


@pytest.mark.parametrize("name", OWN)
def test_its_tools_have_titles_and_flat_schemas_whose_parameters_are_described(name):
    tool = CATALOG.surface_tools[name]
    wire = wire_tool(tool).model_dump(by_alias=True, exclude_none=True)
    assert wire["title"]
    assert all(schema["description"] for schema in tool.input_schema["properties"].values())
    assert not any(word in str(tool.input_schema) for word in ("anyOf", "oneOf", "$ref"))
    assert ("outputSchema" in wire) is (name == "search_tools")
    assert "confirm" not in tool.input_schema["properties"]


def test_the_list_of_the_search_surface_costs_little(record_property):
    listed = [
        wire_tool(tool).model_dump(by_alias=True, mode="json", exclude_none=True) for tool in seen(CATALOG).listed()
    ]
    tokens = math.ceil(len(orjson.dumps(listed)) / BYTES_PER_TOKEN)
    record_property("search_surface_tokens", tokens)
    assert tokens < MOST_TOKENS


def test_instructions_begin_with_the_search_where_there_is_one():
    view = seen(CATALOG)
    assert "Begin with `search_tools`" in view.instructions()
    assert "search_tools" not in view.on("full").instructions()
    assert len(view.instructions()) <= 500


@pytest.mark.parametrize("name", OWN)
async def test_no_plugin_can_have_a_tool_of_these_names(open_plugins, name):
    category = Category("greedy", "Takes names.")

    async def take(ctx: ToolContext) -> Answer:
        """Take a name."""
        return Answer(text="")

    take.__name__ = name
    category.tool(read_only=True)(take)
    async with open_plugins(plugin("greedy", register_categories=[category]), strict=False) as runtime:
        assert list(runtime.plugins.loaded) == []
        assert f"the tool {name!r} is already contributed" in runtime.plugins.failures[0].reason
