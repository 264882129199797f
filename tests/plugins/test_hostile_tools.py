"""Tools that misbehave while they run: the caller gets an answer that says so, nothing is kept, and all else works."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx
import pytest
from mcp.types import CallToolResult
from pydantic import BaseModel
from sqlmodel import select
from structlog.testing import capture_logs

from mercato import Category, ToolContext, ToolError
from mercato.server.runtime import open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.grants import DisabledTool
from mercato.tools.call import LONGEST_ANSWER_BYTES
from tests.inmemory import client_of, plugin

hostile = Category("hostile", "Misbehaves.")
WRITTEN = "written by a hostile tool"
WRITERS = ("write_and_raise", "write_and_refuse", "write_and_hang", "write_too_much", "write_and_commit", "write_wrong")


class Answer(BaseModel):
    text: str


class Loose(BaseModel):
    value: Any


class OddError(BaseException):
    pass


async def write(ctx: ToolContext) -> None:
    ctx.db.session.add(DisabledTool(tool=WRITTEN))
    await ctx.db.session.flush()


@hostile.tool(read_only=True)
async def behave(ctx: ToolContext) -> Answer:
    """Behave."""
    return Answer(text=str(len(await ctx.db.rows(select(DisabledTool)))))


@hostile.tool(read_only=True, timeout_s=0.05)
async def hang(ctx: ToolContext) -> Answer:
    """Hang for ever."""
    await anyio.Event().wait()
    return Answer(text="never")


@hostile.raw_tool(input_schema={"type": "object"}, read_only=True, timeout_s=0.05)
async def hang_raw(ctx: Any, arguments: dict[str, Any]) -> CallToolResult:
    """Hang for ever, past the context."""
    await anyio.Event().wait()
    return CallToolResult(content=[])


@hostile.tool(read_only=True)
async def raise_secret(ctx: ToolContext) -> Answer:
    """Raise what must not be shown."""
    raise ValueError("password of the database: hunter2")


@hostile.tool(read_only=True)
async def raise_time_out(ctx: ToolContext) -> Answer:
    """Raise a time-out of its own."""
    raise TimeoutError("the outside service")


@hostile.tool(read_only=True)
async def raise_exit(ctx: ToolContext) -> Answer:
    """Exit."""
    raise SystemExit(7)


@hostile.tool(read_only=True)
async def raise_odd(ctx: ToolContext) -> Answer:
    """Raise what is no Exception."""
    raise OddError


@hostile.tool(read_only=True)
async def raise_cancelled(ctx: ToolContext) -> Answer:
    """Pretend that it was cancelled."""
    raise asyncio.CancelledError


@hostile.tool(read_only=True)
async def raise_group(ctx: ToolContext) -> Answer:
    """Raise out of a group of tasks."""
    async with anyio.create_task_group() as group:
        group.start_soon(_raise_odd)
    return Answer(text="never")


async def _raise_odd() -> None:
    raise OddError


@hostile.tool(read_only=True)
async def return_text(ctx: ToolContext) -> Answer:
    """Return a text."""
    return "text"  # type: ignore[return-value]


@hostile.tool(read_only=True)
async def return_nothing(ctx: ToolContext) -> Answer:
    """Return nothing."""


@hostile.tool(read_only=True)
async def return_another_model(ctx: ToolContext) -> Answer:
    """Return another model."""
    return Loose(value=1)  # type: ignore[return-value]


@hostile.tool(read_only=True)
async def return_unchecked(ctx: ToolContext) -> Answer:
    """Return a model whose values are not what it says."""
    return Answer.model_construct(text=[1, 2])


@hostile.tool(read_only=True)
async def return_object(ctx: ToolContext) -> Loose:
    """Return what cannot be serialised."""
    return Loose(value=object())


@hostile.tool(read_only=True)
async def return_too_much(ctx: ToolContext) -> Answer:
    """Return too much."""
    return Answer(text="x" * LONGEST_ANSWER_BYTES)


@hostile.tool(read_only=True)
async def write_while_reading(ctx: ToolContext) -> Answer:
    """Write although it only reads."""
    await write(ctx)
    return Answer(text="written")


@hostile.tool(read_only=True)
async def close_the_client(ctx: ToolContext) -> Answer:
    """Close the HTTP client that all share."""
    await ctx.http.aclose()
    return Answer(text="closed")


@hostile.tool(read_only=True)
async def fetch(ctx: ToolContext) -> Answer:
    """Fetch what is outside, which answers with the cookies that it got."""
    return Answer(text=(await ctx.http.get("https://outside.example/")).text)


@hostile.tool(read_only=False)
async def write_and_raise(ctx: ToolContext) -> Answer:
    """Write, then raise."""
    await write(ctx)
    raise RuntimeError("after the write")


@hostile.tool(read_only=False)
async def write_and_refuse(ctx: ToolContext) -> Answer:
    """Write, then refuse."""
    await write(ctx)
    raise ToolError("Not after all.")


@hostile.tool(read_only=False, timeout_s=0.5)
async def write_and_hang(ctx: ToolContext) -> Answer:
    """Write, then hang."""
    await write(ctx)
    await anyio.Event().wait()
    return Answer(text="never")


@hostile.tool(read_only=False)
async def write_too_much(ctx: ToolContext) -> Answer:
    """Write, then say too much."""
    await write(ctx)
    return Answer(text="x" * LONGEST_ANSWER_BYTES)


@hostile.tool(read_only=False)
async def write_wrong(ctx: ToolContext) -> Answer:
    """Write, then return the wrong thing."""
    await write(ctx)
    return {"text": "x"}  # type: ignore[return-value]


@hostile.tool(read_only=False)
async def write_and_commit(ctx: ToolContext) -> Answer:
    """Write, commit past the audit, then raise."""
    await write(ctx)
    await ctx.db.session.commit()
    raise RuntimeError("after the commit")


def _outside(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text=request.headers.get("cookie", "none"), headers={"set-cookie": "session=acme"})


@pytest.fixture(scope="module")
async def runtime(anyio_backend, mercato_addresses, tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), database_pool=2)
    found, transport = [plugin("hostile", register_categories=[hostile])], httpx.MockTransport(_outside)
    async with open_runtime(settings, mercato_addresses, found=found, strict=True, transport=transport) as opened:
        yield opened


@pytest.fixture
async def acme(runtime, new_tenant):
    return await new_tenant(runtime)


@pytest.fixture(params=["auto", "legacy"])
async def client(runtime, acme, request):
    async with client_of(runtime, acme, mode=request.param) as client:
        yield client


async def _still_serves(client):
    assert (await client.call_tool("behave")).structured_content == {"text": "0"}


def _code(result):
    assert result.is_error
    assert result.structured_content is None
    return result.meta["mercato/error"]["code"]


@pytest.mark.parametrize("name", ["hang", "hang_raw"])
async def test_a_tool_that_never_returns_is_stopped_and_says_so(client, name):
    result = await client.call_tool(name)
    assert _code(result) == "timed_out"
    assert "took over 0.05 seconds" in result.content[0].text
    assert result.meta["mercato/error"]["retryable"] is True
    await _still_serves(client)


FAULTY = ("raise_secret", "raise_time_out", "raise_exit", "raise_odd", "raise_cancelled", "raise_group")
WRONG = ("return_text", "return_nothing", "return_another_model", "return_unchecked", "return_object")


@pytest.mark.parametrize("name", [*FAULTY, *WRONG, "write_while_reading"])
async def test_a_tool_that_fails_tells_the_model_a_reference_that_the_log_has(client, name):
    with capture_logs() as logs:
        result = await client.call_tool(name, read_timeout_seconds=10)
    assert _code(result) == "internal_fault"
    reference = result.meta["mercato/error"]["reference"]
    assert result.content[0].text == (
        f"Something went wrong on the server, and nothing was changed. Reference: {reference}."
    )
    assert [entry["tool"] for entry in logs if entry.get("reference") == reference] == [name]
    await _still_serves(client)


async def test_an_answer_that_is_too_long_is_refused_with_what_to_do(client):
    result = await client.call_tool("return_too_much")
    assert _code(result) == "answer_too_large"
    assert "smaller `limit`" in result.content[0].text


@pytest.mark.parametrize("name", WRITERS)
async def test_a_tool_that_fails_after_writing_leaves_neither_its_write_nor_an_audit_row(client, runtime, acme, name):
    assert (await client.call_tool(name)).is_error
    async with runtime.database.tenant(acme.id) as db:
        written = await db.rows(select(DisabledTool))
        actions = [entry.action for entry in await db.rows(select(AuditEntry))]
    assert (written, actions) == ([], ["tenant.create"])


async def test_a_tool_cannot_close_the_http_client_that_all_share(client):
    assert _code(await client.call_tool("close_the_client")) == "internal_fault"
    assert (await client.call_tool("fetch")).structured_content == {"text": "none"}


async def test_cookies_of_the_outside_do_not_go_from_one_call_to_the_next(client):
    for _ in range(2):
        assert (await client.call_tool("fetch")).structured_content == {"text": "none"}
