"""One tenant never sees another's: the whole catalogue, sessions, streams and all that is named by an id, over HTTP."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from pydantic import BaseModel

from mercato import Category, ToolContext
from mercato.plugins.manager import discover
from mercato.server.app import create_app
from mercato.server.changes import Change
from mercato.server.settings import Settings
from mercato.tenancy.limits import MOST
from mercato.tenancy.onboarding import onboard_tenant
from mercato.tenancy.tenants import Tenant
from mercato.tools.replays import KEY
from mercato.tools.schema import example_of
from tests.inmemory import plugin
from tests.rows import arguments_with, fill, open_rows
from tests.server import probe
from tests.server.conftest import HELLO, Site, listening, modern
from tests.server.sessions.client import McpClient, Stream, call, request
from tests.server.test_subscriptions import listening as modern_stream

ASKED = {"elicitation": {"form": {}}}
UNFIT = {"wait_for_ever", "break_down"}
"""What never ends, and what breaks."""
LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")

asking = Category("asking", "Asks.")


class Name(BaseModel):
    name: str


@asking.tool(read_only=True)
async def ask_for_name(ctx: ToolContext) -> Name:
    """Ask for a name."""
    return await ctx.ask("Who are you?", Name)


@pytest.fixture(scope="module")
async def site(anyio_backend, mercato_addresses, tmp_path_factory):
    """A server with every plugin of ours and those of the tests, and limits that nobody reaches."""
    limits = {f"limit_{name}": MOST for name in ("tenant", "caller", "read", "write", "heavy", "lists")}
    settings = Settings(data_dir=tmp_path_factory.mktemp("isolation"), log_level="warning", **limits)
    found = [*(one for one in discover() if one.built_in), probe.FOUND, plugin("asking", register_categories=[asking])]
    async with listening(
        lambda port: create_app(settings.model_copy(update={"port": port}), mercato_addresses, found=found)
    ) as opened:
        assert opened.runtime.plugins.failures == []
        yield opened


@pytest.fixture(scope="module")
async def rows(site: Site, mercato_addresses):
    async with open_rows(mercato_addresses.database_url, site.runtime.plugins.loaded) as opened:
        yield opened


async def _tenant(site: Site, name: str) -> Tenant:
    slug = f"{name.lower()}-{secrets.token_hex(6)}"
    categories = site.runtime.catalog.categories
    owner = f"ada@{slug}.example"
    return await onboard_tenant(site.runtime.database, slug, name, owner_email=owner, categories=categories)


@pytest.fixture(scope="module")
async def acme(site: Site):
    """Who has something to be seen."""
    tenant = await _tenant(site, "Acme")
    await fill(site.runtime, tenant)
    return tenant


@pytest.fixture(scope="module")
async def theirs(rows, acme: Tenant):
    """What must never be shown to anybody else."""
    found = await rows.secrets(acme.id)
    assert len(found) > 50
    return {*found, acme.slug}


@pytest.fixture
async def ours(site: Site, acme: Tenant):
    """A client of Acme, in a session."""
    client = McpClient(await site.key(acme))
    yield await client.open(site)
    await client.close()


@pytest.fixture
async def globex(site: Site):
    return await _tenant(site, "Globex")


@pytest.fixture
async def strangers(site: Site, globex: Tenant):
    """Those of another tenant: a client in a session of its own, and one without."""
    key = await site.key(globex)
    client = McpClient(key)
    async with site.client(key) as plain:
        yield await client.open(site, HELLO), plain  # which cannot be asked: no call waits for an answer
    await client.close()


async def _said(site: Site, strangers: Any, era: str, method: str, params: dict[str, Any]) -> str:
    """Return what the strangers are told, as text."""
    client, plain = strangers
    answer = await (modern(plain, method, params) if era == "modern" else client.ask(site, method, params))
    assert answer.status_code in {200, 400, 404}, f"{method} {params}: {answer.status_code} {answer.text}"
    assert "internal_fault" not in answer.text, f"{method} {params}"
    assert "-32603" not in answer.text, f"{method} {params}: {answer.text}"
    said: str = answer.text
    return said


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_no_tool_shows_or_changes_anything(site: Site, rows, acme: Tenant, theirs, strangers, era: str):
    ids, before = sorted(set((await rows.ids(acme.id)).values())), await rows.contents(acme.id)
    tools = [tool for tool in site.runtime.catalog.tools.values() if tool.name not in UNFIT]
    for tool in tools:
        for row_id in ids if any("id" in name for name in tool.input_schema["properties"]) else ids[:1]:
            arguments = arguments_with(tool, row_id)
            said = await _said(site, strangers, era, "tools/call", {"name": tool.name, "arguments": arguments})
            assert "invalid_arguments" not in said, f"{tool.name}({arguments}): {said}"
            assert [secret for secret in theirs if secret in said] == [], f"{tool.name}({arguments})"
    assert await rows.contents(acme.id) == before


async def test_the_secrets_are_shown_to_whom_they_belong(site: Site, rows, acme: Tenant, theirs, ours):
    ids, showing = sorted(set((await rows.ids(acme.id)).values())), set()
    for tool in site.runtime.catalog.tools.values():
        if tool.read_only and tool.category not in {"probe", "asking"}:
            for row_id in ids:
                said = (await ours.call(site, tool.name, **arguments_with(tool, row_id))).text
                showing |= {tool.name for secret in theirs if secret in said}
    assert len(showing) >= 5, showing


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_no_cursor_leads_into_another_tenants_pages(site: Site, ours, theirs, strangers, era: str):
    paged = [tool for tool in site.runtime.catalog.tools.values() if "cursor" in tool.input_schema["properties"]]
    followed = 0
    for tool in paged:
        arguments = example_of(tool.input_schema, {}, set()) | {"limit": 1}
        first = (await ours.call(site, tool.name, **arguments)).json()["result"]
        if cursor := first.get("structuredContent", {}).get("next_cursor"):
            stolen = {"name": tool.name, "arguments": arguments | {"cursor": cursor}}
            said = await _said(site, strangers, era, "tools/call", stolen)
            assert [secret for secret in theirs if secret in said] == [], tool.name
            followed += 1
    assert followed >= 2


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_no_list_resource_prompt_or_completion_shows_anything(
    site: Site, rows, acme: Tenant, theirs, strangers, era: str
):
    catalog = site.runtime.catalog
    values = [*map(str, sorted(set((await rows.ids(acme.id)).values()))), *sorted(theirs)[:5]]
    asked: list[tuple[str, dict[str, Any]]] = [(method, {}) for method in LISTS]
    for resource in catalog.resources:
        for value in values if resource.is_template else values[:1]:
            uri = resource.uri
            for variable in resource.variables:
                uri = uri.replace(f"{{{variable}}}", value)
            asked.append(("resources/read", {"uri": uri}))
        asked += _completions("ref/resource", "uri", resource.uri, resource.complete, theirs)
    for prompt in catalog.prompts.values():
        for value in values:
            arguments = {argument.name: value for argument in prompt.arguments}
            asked.append(("prompts/get", {"name": prompt.name, "arguments": arguments}))
        asked += _completions("ref/prompt", "name", prompt.name, prompt.complete, theirs)
    assert {method for method, _ in asked} == {*LISTS, "resources/read", "prompts/get", "completion/complete"}
    for method, params in asked:
        said = await _said(site, strangers, era, method, params)
        given = str(params)  # what one says oneself may come back
        assert [secret for secret in theirs if secret in said and secret not in given] == [], f"{method} {params}"


def _completions(kind: str, named: str, name: str, complete: Any, theirs: set[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return what asks for the values of every argument: all of them, and those that begin as the others' do."""
    begun = ["", *sorted({secret[:1] for secret in theirs}), "1"]
    return [
        ("completion/complete", {"ref": {"type": kind, named: name}, "argument": {"name": argument, "value": value}})
        for argument in complete
        for value in begun
    ]


async def test_a_session_of_another_tenant_is_not_there(site: Site, acme: Tenant, ours, strangers):
    thief, _ = strangers
    own, colleague = thief.session_id, McpClient(await site.key(acme))
    for other in (thief, colleague):
        other.session_id = ours.session_id
        answers = [await other.ask(site, method) for method in ("ping", *LISTS)]
        answers += [await other.call(site, tool.name) for tool in site.runtime.catalog.tools.values()]
        answers += [await other.notify(site, "notifications/cancelled", {"requestId": 1})]
        answers += [await other.post(site, {"jsonrpc": "2.0", "id": "q", "result": {}})]
        answers += [await other.at(site).get("/mcp"), await other.at(site).delete("/mcp")]
        assert {answer.status_code for answer in answers} == {404}
    await colleague.close()
    thief.session_id = own
    assert (await thief.ask(site, "ping")).json()["result"] == {}
    assert (await ours.ask(site, "ping")).json()["result"] == {}


async def test_nothing_that_another_tenant_does_comes_on_a_stream(site: Site, ours, acme: Tenant, strangers, globex):
    thief, _ = strangers
    for client in (ours, thief):
        await client.ask(site, "resources/subscribe", {"uri": "probe://thing"})
    changes = site.runtime.changes
    async with (
        site.client(await site.key(acme)) as listener,
        modern_stream(listener) as (modern_events, _),
        ours.listening(site) as events,
    ):
        await thief.call(site, "change")
        await changes.publish(Change("access", acme.id))
        first = [await events.message() for _ in range(3)] + [await modern_events.next() for _ in range(3)]
        await changes.publish(Change("access", globex.id))
        await ours.call(site, "change")
        second = [await events.message(), await modern_events.next()]
    assert {message["method"].rpartition("/")[2] for message in first} == {"list_changed"}
    assert {message["method"] for message in second} == {"notifications/resources/updated"}


async def test_an_event_id_of_another_tenant_leads_nowhere(site: Site, ours, strangers):
    thief, _ = strangers
    async with ours.streamed(site, call("count_up", token="p")) as stream:
        primed = await stream.next()
        assert primed.id
    own = thief.session_id
    answer = await thief.at(site).get("/mcp", headers={"last-event-id": primed.id})
    assert (answer.status_code, "counted" in answer.text) == (400, False)
    thief.session_id = ours.session_id
    assert (await thief.at(site).get("/mcp", headers={"last-event-id": primed.id})).status_code == 404
    thief.session_id = own


async def test_nobody_else_answers_a_question_or_cancels_a_call(site: Site, ours, strangers):
    thief, _ = strangers
    async with ours.streamed(site, call("ask_for_name", 7)) as stream:
        question = await stream.message()
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Eve"}}}
        assert (await thief.post(site, reply)).status_code == 202
        assert (await thief.notify(site, "notifications/cancelled", {"requestId": 7})).status_code == 202
        reply["result"]["content"]["name"] = "Ada"
        await ours.post(site, reply)
        answer = await stream.message()
    assert answer["result"]["structuredContent"] == {"name": "Ada"}


async def test_a_request_state_of_another_tenant_is_refused(site: Site, acme: Tenant, strangers):
    _, plain = strangers
    params = {"name": "wipe", "arguments": {"what": "all"}}
    async with site.client(await site.key(acme)) as client:
        asked = (await modern(client, "tools/call", params, **ASKED)).json()["result"]
        (key,) = asked["inputRequests"]
        accepted = {"action": "accept", "content": {"confirm": True}}
        answered = {**params, "inputResponses": {key: accepted}, "requestState": asked["requestState"]}
        stolen = (await modern(plain, "tools/call", answered, **ASKED)).json()
        done = (await modern(client, "tools/call", answered, **ASKED)).json()["result"]
    assert stolen["error"]["code"] == -32602
    assert done["structuredContent"] == {"text": "wiped all"}


async def test_idempotency_keys_of_two_tenants_never_meet(site: Site, acme: Tenant, strangers):
    _, plain = strangers
    params = {"name": "change", "arguments": {}, "_meta": {KEY: "the-same"}}
    other = {"name": "wipe", "arguments": {"what": "all", "confirm": True}, "_meta": {KEY: "the-same"}}
    async with site.client(await site.key(acme)) as client:
        first = (await modern(client, "tools/call", params)).json()["result"]
        again = (await modern(client, "tools/call", params)).json()["result"]
    theirs = (await modern(plain, "tools/call", params)).json()["result"]
    assert "mercato/replayed" not in first.get("_meta", {})
    assert "mercato/replayed" in again["_meta"]
    assert "mercato/replayed" not in theirs.get("_meta", {})
    assert "idempotency_key_reused" in (await modern(plain, "tools/call", other)).text


async def test_the_message_address_of_another_tenants_sse_stream_is_not_there(site: Site, acme: Tenant, strangers):
    thief, _ = strangers
    ours = McpClient(await site.key(acme))
    async with ours.at(site).stream("GET", "/sse") as response:
        address = (await Stream(response).next()).data
        sent = [await thief.at(site).post(address, json=request(method)) for method in ("ping", "tools/list")]
    await ours.close()
    assert [answer.status_code for answer in sent] == [404, 404]
