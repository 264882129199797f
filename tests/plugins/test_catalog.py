"""What plugins declare, as callers see it: one gate for listing and calling, whatever is declared."""

from __future__ import annotations

from typing import Literal

import mcp_types as mcp
import pytest
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from sqlmodel import select

from mercato import Category, ToolContext, ToolError
from mercato.server.changes import Change
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.connections import open_connection
from mercato.tenancy.grants import DisabledTool, disable_category
from tests.inmemory import client_of, plugin

probe = Category("probe", "For the tests.")
long = Category("long", "A category whose description is long. " + "It goes on. " * 36)


class Answer(BaseModel):
    text: str


async def _colours(ctx: ToolContext, typed: str) -> list[str]:
    return [colour for colour in ("red", "rose", "blue") if colour.startswith(typed)]


async def _numbers(ctx: ToolContext, typed: str) -> list[str]:
    return [str(number) for number in range(250)]


@probe.tool(read_only=True, requires=("shop",))
async def read_shop(ctx: ToolContext) -> Answer:
    """Read what is in the shop."""
    connected = await ctx.connection("shop")
    return Answer(text=f"{connected.account} {connected.credentials['token']}")


@probe.tool(read_only=True)
async def read_shop_if_there(ctx: ToolContext) -> Answer:
    """Read what is in the shop, which may not be there."""
    return Answer(text=(await ctx.connection("shop", "other")).account)


@probe.tool(read_only=True, admin=True)
async def read_for_admins(ctx: ToolContext) -> Answer:
    """Read what is for admins."""
    return Answer(text="admin")


@probe.resource("probe://fixed", title="Fixed")
async def fixed(ctx: ToolContext) -> Answer:
    """Hold still."""
    return Answer(text=ctx.tenant.name)


@probe.resource("probe://bytes", mime_type="image/png")
async def as_bytes(ctx: ToolContext) -> bytes:
    """Be bytes."""
    return b"\x89PNG"


@probe.resource("probe://things/{colour}/{number}", mime_type="text/plain", complete={"colour": _colours})
async def thing(ctx: ToolContext, colour: str, number: str) -> str:
    """Be a thing."""
    if number == "0":
        raise LookupError(number)
    if number == "13":
        raise ToolError("Thirteen is refused.", next_step="Take another.")
    return f"{colour}:{number}"


@probe.resource("probe://writes")
async def writes(ctx: ToolContext) -> str:
    """Write, which a resource may not."""
    ctx.db.session.add(DisabledTool(tool="x"))
    return "written"


@probe.prompt(title="Paint", complete={"colour": _colours, "coats": _numbers})
async def paint_it(ctx: ToolContext, colour: Literal["red", "blue"], coats: int = 1) -> str:
    """Paint it."""
    return f"Paint it {colour}, {coats + 1 - 1} times."


@probe.prompt()
async def talk_it_over(ctx: ToolContext) -> list[mcp.PromptMessage]:
    """Talk it over."""
    rows = await ctx.db.rows(select(DisabledTool))
    return [
        mcp.PromptMessage(role="user", content=mcp.TextContent(text=f"{len(rows)} off")),
        mcp.PromptMessage(role="assistant", content=mcp.TextContent(text="Good.")),
    ]


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), database_pool=2)
    found = [plugin("probe", register_categories=[probe, long])]
    async with open_runtime(settings, mercato_addresses, found=found, strict=True) as opened:
        yield opened


@pytest.fixture
async def acme(runtime, new_tenant):
    return await new_tenant(runtime)


@pytest.fixture(params=["auto", "legacy"])
async def client(runtime, acme, request):
    async with client_of(runtime, acme, mode=request.param) as client:
        yield client


async def test_a_tool_whose_service_is_not_connected_is_not_listed_and_says_what_to_do(client, runtime, acme):
    assert "read_shop" not in {tool.name for tool in (await client.list_tools()).tools}
    result = await client.call_tool("read_shop")
    assert result.meta["mercato/error"]["code"] == "not_connected"
    assert "An owner or admin connects shop" in result.content[0].text
    async with runtime.database.tenant(acme.id) as db:
        await open_connection(db, runtime.ring, "shop", "acme.example", {"token": "t"})
    await runtime.changes.publish(Change("access", acme.id))
    assert "read_shop" in {tool.name for tool in (await client.list_tools()).tools}
    assert (await client.call_tool("read_shop")).structured_content == {"text": "acme.example t"}


async def test_a_tool_that_finds_no_connection_says_so(client):
    result = await client.call_tool("read_shop_if_there")
    assert result.content[0].text.startswith("shop (other) is not connected.")


async def test_resources_and_templates_are_listed_apart(client):
    resources = (await client.list_resources()).resources
    templates = (await client.list_resource_templates()).resource_templates
    assert {str(resource.uri) for resource in resources} == {"probe://fixed", "probe://bytes", "probe://writes"}
    assert [template.uri_template for template in templates] == ["probe://things/{colour}/{number}"]


async def test_a_resource_is_json_bytes_or_text(client):
    [model] = (await client.read_resource("probe://fixed")).contents
    [raw] = (await client.read_resource("probe://bytes")).contents
    [text] = (await client.read_resource("probe://things/red/7")).contents
    assert (model.text, model.mime_type) == ('{"text":"Acme"}', "application/json")
    assert (raw.blob, raw.mime_type) == ("iVBORw==", "image/png")
    assert (text.text, text.mime_type) == ("red:7", "text/plain")


async def test_variables_of_a_template_are_unquoted_and_hold_no_slash(client):
    [text] = (await client.read_resource("probe://things/dark%20red/a%2Fb")).contents
    assert text.text == "dark red:a/b"
    with pytest.raises(MCPError, match="There is no resource"):
        await client.read_resource("probe://things/red/7/8")


@pytest.mark.parametrize("uri", ["probe://nothing", "probe://things/red/0", "other://fixed", "probe://things//7"])
async def test_what_is_not_there_is_not_found_in_the_words_of_the_era(client, uri):
    with pytest.raises(MCPError) as raised:
        await client.read_resource(uri)
    modern = client.protocol_version >= "2026"
    assert raised.value.code == (-32602 if modern else -32002)
    assert raised.value.message == f"There is no resource {uri!r}."


async def test_a_resource_that_refuses_says_why(client):
    with pytest.raises(MCPError, match=r"Thirteen is refused\. Take another\."):
        await client.read_resource("probe://things/red/13")


async def test_a_resource_cannot_write_and_its_fault_is_a_reference(client):
    with pytest.raises(MCPError, match=r"^Internal error\. Reference: [0-9a-f]{12}\.$"):
        await client.read_resource("probe://writes")


async def test_prompts_are_listed_with_their_arguments(client):
    prompts = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
    assert prompts["paint_it"].title == "Paint"
    assert [(argument.name, argument.required) for argument in prompts["paint_it"].arguments] == [
        ("colour", True),
        ("coats", False),
    ]


async def test_arguments_of_prompts_are_texts_that_become_what_they_are(client):
    [message] = (await client.get_prompt("paint_it", {"colour": "red", "coats": "2"})).messages
    assert (message.role, message.content.text) == ("user", "Paint it red, 2 times.")
    assert [message.role for message in (await client.get_prompt("talk_it_over")).messages] == ["user", "assistant"]


async def test_a_wrong_argument_of_a_prompt_is_refused_as_that_of_a_tool(client):
    with pytest.raises(MCPError, match="Allowed for `colour`: red, blue") as raised:
        await client.get_prompt("paint_it", {"colour": "green"})
    assert raised.value.code == -32602
    with pytest.raises(MCPError, match="There is no prompt 'nothing'"):
        await client.get_prompt("nothing")


async def test_arguments_are_completed(client):
    paint = mcp.PromptReference(name="paint_it")
    things = mcp.ResourceTemplateReference(uri="probe://things/{colour}/{number}")
    for reference in (paint, things):
        completion = (await client.complete(reference, {"name": "colour", "value": "r"})).completion
        assert completion.values == ["red", "rose"]
    many = (await client.complete(paint, {"name": "coats", "value": ""})).completion
    assert (len(many.values), many.total, many.has_more) == (100, 250, True)
    none = (await client.complete(things, {"name": "number", "value": ""})).completion
    assert none.values == []


async def test_a_category_that_is_off_takes_its_resources_and_prompts_along(client, runtime, acme):
    async with runtime.database.tenant(acme.id) as db:
        await disable_category(db, "probe")
    await runtime.changes.publish(Change("access", acme.id))
    assert (await client.list_resources()).resources == []
    assert (await client.list_prompts()).prompts == []
    for attempt in (client.read_resource("probe://fixed"), client.get_prompt("talk_it_over")):
        with pytest.raises(MCPError, match="has switched the category `probe` off"):
            await attempt


async def test_the_instructions_name_the_tenant_and_what_is_at_hand_in_few_words(client):
    assert "Acme" in client.instructions
    assert "probe: For the tests." in client.instructions
    assert len(client.instructions) <= 500


async def test_a_list_has_one_page(client):
    with pytest.raises(MCPError, match="one page"):
        await client.list_tools(cursor="next")
