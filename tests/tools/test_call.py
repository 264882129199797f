"""The one way in which a tool runs: the order of its steps, and what is left when one of them fails."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Annotated

import mcp_types as mcp
import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import select

from mercato import Category, Reply, ToolContext, ToolError
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.audit_chain import take_turn
from mercato.tenancy.grants import DisabledTool
from mercato.tenancy.memberships import Role
from mercato.tenancy.principal import Principal
from mercato.tools.call import Call, call_tool
from tests.inmemory import client_of, plugin

probe = Category("probe", "For the tests.")


class Answer(BaseModel):
    text: str


@probe.tool(read_only=True)
async def look(ctx: ToolContext, name: str = "x") -> Answer:
    """Look."""
    return Answer(text=str(len(await ctx.db.rows(select(DisabledTool)))))


@probe.tool(read_only=False, aliases=("put",))
async def keep(ctx: ToolContext, name: Annotated[str, Field(max_length=99)], api_key: str = "none") -> Answer:
    """Keep."""
    if name == "refused":
        raise ToolError("That name is refused.", field="name", next_step="Take another.")
    ctx.db.session.add(DisabledTool(tool=name))
    return Answer(text=name)


@probe.tool(read_only=False)
async def keep_late(ctx: ToolContext, name: str) -> Answer:
    """Keep what the database refuses only at the end."""
    ctx.db.session.add(DisabledTool(tool=name))
    ctx.db.session.add(DisabledTool(tool=name))
    return Answer(text=name)


@probe.tool(read_only=False)
async def keep_much(ctx: ToolContext) -> Answer:
    """Keep, and say much of it."""
    return Answer(text="x" * 5_000)


@probe.tool(read_only=True)
async def show(ctx: ToolContext) -> Reply:
    """Show more than a model."""
    link = mcp.ResourceLink(uri="probe://one", name="one")
    return Reply(Answer(text="seen"), links=[link], meta={"view": 1}, changed=["probe://one"])


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings, found = Settings(data_dir=tmp_path_factory.mktemp("data")), [plugin("probe", register_categories=[probe])]
    async with open_runtime(settings, mercato_addresses, found=found, strict=True) as opened:
        yield opened


@pytest.fixture
async def acme(runtime, new_tenant):
    return await new_tenant(runtime)


@pytest.fixture
async def client(runtime, acme):
    async with client_of(runtime, acme) as client:
        yield client


@pytest.fixture
def kept(runtime, acme):
    """What the tenant has now: the names kept, and the audit of it."""

    async def read():
        async with runtime.database.tenant(acme.id) as db:
            names = [row.tool for row in await db.rows(select(DisabledTool))]
            entries = await db.rows(select(AuditEntry).where(AuditEntry.action != "tenant.create"))
        return names, entries

    return read


class _NeverOpened:
    """Contexts of which none may be opened."""

    def __init__(self):
        self.replays = _NothingBefore()

    @asynccontextmanager
    async def open(self, call, conversation, *, read_only):
        raise AssertionError("the context was opened before the arguments were known to be right")
        yield


class _NothingBefore:
    """Replays that know of no call."""

    @asynccontextmanager
    async def attempt(self, call, delivery, *, timeout_s):
        yield self

    async def look(self):
        return None


class _Open:
    """A guard that lets everything through and keeps how it ended."""

    def __init__(self):
        self.settled = []

    async def admit(self, call):
        call.admitted_at = 1.0

    def settle(self, call, code, answer_bytes, seconds):
        self.settled.append(code)


class _Mute:
    can_ask = False


class _Access:
    unconfirmed = frozenset()


_ADA = Principal(1, 1, Role.OWNER, frozenset(), None, "local")


def _call(tool, **arguments):
    return Call(tool=tool, arguments=arguments, principal=_ADA, access=_Access(), client=_Mute(), request_id="r1")


async def test_arguments_are_validated_before_anything_is_opened():
    outcome = await call_tool(_call(keep, name=7), _NeverOpened(), guard := _Open())
    assert outcome.wire_meta["mercato/error"]["code"] == "invalid_arguments"
    assert guard.settled == ["invalid_arguments"]


async def test_a_tool_that_needs_confirming_is_refused_before_anything_is_opened():
    tool = probe.tool(read_only=False, destructive=True)(look.function)
    probe.tools.remove(tool)
    outcome = await call_tool(_call(tool, name="a"), _NeverOpened(), _Open())
    assert outcome.wire_meta["mercato/error"]["code"] == "confirmation_needed"


@pytest.fixture
async def nothing_sealed(runtime):
    """The sealer waits: a row that it has sealed names its transaction, and not the one that wrote it."""
    async with runtime.database.system() as session:
        await take_turn(await session.connection())
        yield


async def test_a_write_is_kept_with_its_audit_row_in_the_same_transaction(client, kept, runtime, acme, nothing_sealed):
    result = await client.call_tool("keep", {"name": "orders", "api_key": "mck_1234"})
    assert result.structured_content == {"text": "orders"}
    names, [entry] = await kept()
    assert names == ["orders"]
    assert (entry.action, entry.arguments, entry.effect) == (
        "keep",
        {"name": "orders", "api_key": "***"},
        {"text": "orders"},
    )
    assert (entry.kind, entry.client_id, entry.request_id is not None) == ("local", "terminal", True)
    assert await _transactions(runtime, acme, "disabled_tools") == await _transactions(runtime, acme, "audit_entries")


async def _transactions(runtime, acme, table):
    """The numbers of the transactions that wrote the table's rows, but for the tenant's own beginning."""
    of_the_call = "action <> 'tenant.create'" if table == "audit_entries" else "true"
    statement = sa.select(sa.text("xmin::text")).select_from(sa.text(f"mercato.{table}")).where(sa.text(of_the_call))
    async with runtime.database.tenant(acme.id) as db:
        return {row[0] for row in await db.rows(statement)}


@pytest.mark.parametrize(
    ("tool", "name", "code"), [("keep", "refused", "error"), ("keep_late", "twice", "internal_fault")]
)
async def test_a_write_that_fails_leaves_neither_row_nor_audit(client, kept, tool, name, code):
    result = await client.call_tool(tool, {"name": name})
    assert result.meta["mercato/error"]["code"] == code
    assert await kept() == ([], [])


async def test_what_only_reads_is_not_audited(client, kept):
    assert (await client.call_tool("look")).structured_content == {"text": "0"}
    assert await kept() == ([], [])


async def test_a_refusal_tells_the_model_the_cause_and_the_next_step(client):
    result = await client.call_tool("keep", {"name": "refused"})
    assert result.content[0].text == "That name is refused. Take another."
    assert result.meta["mercato/error"] == {"code": "error", "retryable": False, "field": "name"}


async def test_the_text_is_the_structured_content_as_compact_json(client):
    result = await client.call_tool("keep", {"name": "orders"})
    assert [content.text for content in result.content] == ['{"text":"orders"}']


async def test_a_reply_has_links_and_meta_beside_the_model(client):
    result = await client.call_tool("show")
    assert [content.type for content in result.content] == ["text", "resource_link"]
    assert result.meta["view"] == 1


async def test_what_a_call_changed_is_told_after_the_commit(runtime, acme):
    changes = []
    unsubscribe = runtime.changes.subscribe(changes.append)
    async with client_of(runtime, acme) as client:
        await client.call_tool("show")
    unsubscribe()
    assert ("resource", acme.id, "probe://one") in {(change.kind, change.tenant_id, change.uri) for change in changes}


async def test_a_long_effect_is_not_kept_in_the_audit(client, kept):
    await client.call_tool("keep_much")
    assert [entry.effect for entry in (await kept())[1]] == [{"bytes": 5_011}]


async def test_a_tool_answers_to_the_names_it_had_and_is_audited_by_the_one_it_has(client, kept):
    await client.call_tool("put", {"name": "orders"})
    assert [entry.action for entry in (await kept())[1]] == ["keep"]


async def test_a_tool_can_still_be_called_as_the_function_it_was():
    assert await show.function(None) == await show(None)
