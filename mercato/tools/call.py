"""The one way in which a tool runs: from the wire, over stdio, and in the test kit."""

from __future__ import annotations

import asyncio
import math
import secrets
import unicodedata
from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import mcp_types as mcp
import orjson
import structlog
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field

from mercato.tenancy import audit
from mercato.tenancy.access import Access
from mercato.tenancy.database import is_outage
from mercato.tenancy.principal import Principal
from mercato.tools.context import Client, Conversation, InputRequired, ToolContext
from mercato.tools.errors import (
    AnswerTooLarge,
    ConfirmationNeeded,
    Declined,
    InternalFault,
    TimedOut,
    ToolError,
    Unavailable,
)
from mercato.tools.tool import Reply, Tool

log = structlog.stdlib.get_logger(__name__)

LONGEST_ANSWER_BYTES = 40_000
"""About 10,000 tokens at four bytes to a token: more than that drowns a model."""
_KEPT_EFFECT_BYTES = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one tool: what is asked, by whom, over which channel."""

    tool: Tool
    arguments: Mapping[str, Any]
    principal: Principal
    access: Access
    client: Client
    request_id: str
    raw_context: Any = None


class Contexts(Protocol):
    """Opens the context of a call; what it wrote is committed when the block ends well."""

    def open(
        self, call: Call, conversation: Conversation, *, read_only: bool
    ) -> AbstractAsyncContextManager[ToolContext]:
        """Open the context."""


class Confirmation(BaseModel):
    """The question before what cannot be undone."""

    confirm: bool = Field(description="Yes, do it.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: the result for the wire, and the resources that it changed."""

    result: mcp.CallToolResult | mcp.InputRequiredResult
    changed: tuple[str, ...] = ()


async def call_tool(call: Call, contexts: Contexts) -> Outcome:
    """Run a tool: validate, confirm, run with its time-out, audit, serialise, commit, answer.

    A `ToolError` becomes a result the model reads. Anything else unexpected goes to the log, and the model gets a
    reference. Either way nothing that was begun is left half done.
    """
    try:
        return await _run(call, contexts)
    except InputRequired as pause:
        return Outcome(pause.result)
    except ToolError as error:
        return Outcome(error_result(error))
    except MCPError:
        raise  # a raw tool speaks the protocol itself
    except BaseException as error:  # the edge: whatever a plugin raises ends here
        if _is_not_the_tools(error):
            raise
        if is_outage(error):
            log.warning("the database does not answer", tool=call.tool.name, error=type(error).__name__)
            return Outcome(error_result(_outage(call)))
        return Outcome(error_result(_fault(call, error)))


def error_result(error: ToolError) -> mcp.CallToolResult:
    """Return the wire form of a failure that the model may act upon."""
    return mcp.CallToolResult(
        content=[mcp.TextContent(text=error.text())],
        is_error=True,
        _meta={"mercato/error": error.data()},
    )


async def _run(call: Call, contexts: Contexts) -> Outcome:
    conversation = Conversation(call.client)
    arguments = dict(call.arguments)
    if call.tool.destructive:
        arguments.pop("confirm", None)
    if call.tool.is_raw:
        return await _run_raw(call, arguments)
    parsed = call.tool.parse(arguments)
    if call.tool.destructive:
        await _confirm(call, conversation, await _question(call, contexts, conversation, arguments, parsed))
    async with contexts.open(call, conversation, read_only=call.tool.read_only) as ctx:
        value = await _within_time(call, conversation, call.tool.function(ctx, **parsed))
        structured = call.tool.dump(value)
        text = _compact(call, structured)
        if not call.tool.read_only:
            effect = structured if len(text) <= _KEPT_EFFECT_BYTES else {"bytes": len(text)}
            audit.record(ctx.db, call.principal, call.tool.name, arguments, effect, request_id=call.request_id)
    return _answer(value, structured, text)


async def _run_raw(call: Call, arguments: Mapping[str, Any]) -> Outcome:
    result = await _within_time(call, None, call.tool.function(call.raw_context, dict(arguments)))
    if not isinstance(result, mcp.CallToolResult | mcp.InputRequiredResult):
        raise TypeError(f"the raw tool {call.tool.name} returned {type(result).__name__}, not a result of the SDK")
    return Outcome(result)


async def _question(
    call: Call,
    contexts: Contexts,
    conversation: Conversation,
    arguments: Mapping[str, Any],
    parsed: Mapping[str, Any],
) -> str:
    """Return what the person is asked: in the tool's own words, or the call as it is."""
    if call.tool.question is None:
        return f"{call.tool.wire_title}: {_visible(orjson.dumps(audit.masked(arguments)).decode())}."
    async with contexts.open(call, conversation, read_only=True) as ctx:
        return _visible(await _within_time(call, None, call.tool.question(ctx, **parsed)))


async def _confirm(call: Call, conversation: Conversation, question: str) -> None:
    """Ask before what cannot be undone; `confirm: true` counts only where the client cannot ask."""
    if not call.client.can_ask:
        if call.arguments.get("confirm") in (True, "true"):
            return
        raise ConfirmationNeeded(
            f"{question} This cannot be undone, and this client cannot ask the person.",
            field="confirm",
            next_step="Ask them, then call again with `confirm: true`.",
        )
    answer = await conversation.ask(f"{question} This cannot be undone. Go on?", Confirmation)
    if not answer.confirm:
        raise Declined("The person did not confirm; nothing was changed.")


def _visible(text: str) -> str:
    """Return a text without characters that cannot be seen or turn the reading direction."""
    return "".join(character for character in text if unicodedata.category(character) not in {"Cc", "Cf"})


async def _within_time(call: Call, conversation: Conversation | None, running: Awaitable[Any]) -> Any:
    with anyio.move_on_after(call.tool.timeout_s) as scope:
        if conversation is not None:
            conversation.scope = scope
        return await running
    raise TimedOut(
        f"{call.tool.wire_title} took over {call.tool.timeout_s:g} seconds and was stopped; nothing was changed.",
        next_step="Ask for less at a time, or try again later.",
        retryable=True,
    )


def _compact(call: Call, structured: Mapping[str, Any]) -> str:
    text = orjson.dumps(structured)
    if len(text) > LONGEST_ANSWER_BYTES:
        raise AnswerTooLarge(
            f"The answer would be {len(text):,} bytes, more than the {LONGEST_ANSWER_BYTES:,} a model should read.",
            next_step="Narrow it: a smaller `limit`, a filter, or `detail: concise`.",
        )
    return text.decode()


def _answer(value: Any, structured: dict[str, Any], text: str) -> Outcome:
    reply = value if isinstance(value, Reply) else Reply(value)
    content = [*reply.content, *reply.links]
    if not reply.content:
        content.insert(0, mcp.TextContent(text=text))
    meta = dict(reply.meta) if reply.meta else None
    return Outcome(mcp.CallToolResult(content=content, structured_content=structured, _meta=meta), tuple(reply.changed))


def _is_not_the_tools(error: BaseException) -> bool:
    """Whether it is meant for whoever runs us: an interrupt, or a cancellation that somebody asked for.

    A tool may raise `CancelledError` with nobody having cancelled it, by awaiting what was; its caller gets an answer.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return anyio.current_effective_deadline() == -math.inf or task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def _outage(call: Call) -> Unavailable:
    """Return what is true of a call during which the database went away: a commit may have been under way."""
    if call.tool.read_only:
        return Unavailable("The database does not answer at the moment.", next_step="Try again in some seconds.")
    return Unavailable(
        "The database went away during the call, and whether the change was made is not certain.",
        next_step="Look first, and call again only if it was not.",
    )


def _fault(call: Call, error: BaseException) -> InternalFault:
    reference = secrets.token_hex(6)
    log.error(
        "tool failed", tool=call.tool.name, tenant_id=call.principal.tenant_id, reference=reference, exc_info=error
    )
    return InternalFault(reference)
