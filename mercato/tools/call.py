"""The one way in which a tool runs: from the wire, over stdio, and in the test kit."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
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
from mercato.tools.context import Client, Clock, Conversation, Handover, InputRequired, Meter, ToolContext, Watch
from mercato.tools.errors import (
    AnswerTooLarge,
    ConfirmationNeeded,
    Declined,
    InternalFault,
    LimitReached,
    TimedOut,
    ToolError,
    Unavailable,
)
from mercato.tools.outcome import Outcome
from mercato.tools.replays import Delivery, Repeated, Replays, fingerprint_of
from mercato.tools.tool import Reply, Tool

log = structlog.stdlib.get_logger(__name__)

LONGEST_ANSWER_BYTES = 40_000
"""About 10,000 tokens at four bytes to a token: more than that drowns a model."""
CANCELLED, HANDED_OVER = "cancelled", "handed over"
_KEPT_EFFECT_BYTES = 4_000


Begin = Callable[[ToolContext], Awaitable[Mapping[str, Any]]]
"""Stores a call in the transaction of the context; returns what its client is told of the task."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One call of one tool: what is asked, by whom, over which channel.

    `within_limits` says that the wire form has asked the limits already. `admitted_at` (seconds since 1970) is set once
    the call has been counted. `key` is what the client sent as its idempotency key, `state` names the exchange of
    questions that a modern request goes on with. Without a `delivery` an answer counts as delivered when it is there.
    With `begin` the call is stored as a task, and runs in the background. `watch` is what looks after it anyway.
    """

    tool: Tool
    arguments: Mapping[str, Any]
    principal: Principal
    access: Access
    client: Client
    request_id: str
    era: str = ""
    session_id: str | None = None
    request_bytes: int = 0
    raw_context: Any = None
    within_limits: bool = False
    admitted_at: float = 0.0
    meter: Meter | None = None
    delivery: Delivery | None = None
    key: Any = None
    state: str | None = None
    begin: Begin | None = None
    watch: Watch | None = None


class Contexts(Protocol):
    """Opens the context of a call; what it wrote is committed when the block ends well."""

    @property
    def replays(self) -> Replays:
        """What knows the writes whose answers may have been lost."""

    def open(
        self, call: Call, conversation: Conversation, *, read_only: bool
    ) -> AbstractAsyncContextManager[ToolContext]:
        """Open the context."""

    def clock(self, seconds: float, watch: Watch | None = None) -> Clock:
        """Return what stops a block after so many seconds."""


class Guard(Protocol):
    """Stands before and after every call: limits, then usage."""

    async def admit(self, call: Call) -> None:
        """Let the call through, count it and set `admitted_at`. Raises `LimitReached`; never waits for room."""

    def settle(self, call: Call, code: str, answer_bytes: int, seconds: float) -> None:
        """Take down what became of an admitted call: once for each."""


class Confirmation(BaseModel):
    """The question before what cannot be undone."""

    confirm: bool = Field(description="Yes, do it.")


async def call_tool(call: Call, contexts: Contexts, guard: Guard) -> Outcome:
    """Run a tool: ask the Guard, validate, look for the first answer, confirm, run, audit, remember, tell the Guard.

    A write that was made before, and whose answer may have been lost, gives that answer and does nothing. A `ToolError`
    becomes a result the model reads. Anything else unexpected goes to the log, and the model gets a reference. Either
    way nothing that was begun is left half done.
    """
    if not call.admitted_at:
        try:
            await guard.admit(call)
        except LimitReached as reached:
            return Outcome(error=reached)
    began, code, size = time.perf_counter(), CANCELLED, 0
    try:
        try:
            outcome = await _run(call, contexts)
        except InputRequired as pause:
            outcome = Outcome(raw=pause.result)
        except Repeated as repeated:
            outcome = repeated.first
        except ToolError as error:
            outcome = Outcome(error=error)
        except MCPError:  # a raw tool speaks the protocol itself
            code = "protocol_error"
            raise
        except Handover:  # it runs once more, and is taken down then
            code = HANDED_OVER
            raise
        except BaseException as error:  # the edge: whatever a plugin raises ends here
            if _is_not_the_tools(error):
                raise
            outcome = _unforeseen(call, error)
        code, size = outcome.code, outcome.size
        return outcome
    finally:
        if code is not HANDED_OVER:
            guard.settle(call, code, size, time.perf_counter() - began)


def _unforeseen(call: Call, error: BaseException) -> Outcome:
    if is_outage(error):
        log.warning("the database does not answer", tool=call.tool.name, error=type(error).__name__)
        return Outcome(error=_outage(call))
    return Outcome(error=_fault(call, error))


def _run(call: Call, contexts: Contexts) -> Awaitable[Outcome]:
    tool, arguments = call.tool, dict(call.arguments)
    if tool.destructive:
        arguments.pop("confirm", None)
    if tool.is_raw:
        return _run_raw(call, contexts, arguments)
    parsed = tool.parse(arguments)
    if call.begin is not None:
        return _begin(call, contexts, call.begin, arguments, parsed)
    if tool.read_only:
        return _read(call, contexts, parsed)
    return _write(call, contexts, arguments, parsed)


async def _read(call: Call, contexts: Contexts, parsed: Mapping[str, Any]) -> Outcome:
    tool, conversation = call.tool, Conversation(call.client)
    async with contexts.open(call, conversation, read_only=True) as ctx:
        with contexts.clock(tool.timeout_s, call.watch) as conversation.clock:
            value = await tool.function(ctx, **parsed)
            return _answer(value, _serialised(call, value))
        raise _timed_out(call)


async def _write(call: Call, contexts: Contexts, arguments: Mapping[str, Any], parsed: Mapping[str, Any]) -> Outcome:
    tool, principal, conversation = call.tool, call.principal, Conversation(call.client)
    fingerprint = fingerprint_of(principal, tool.name, arguments, key=call.key, state=call.state)
    async with contexts.replays.attempt(fingerprint, call.delivery, timeout_s=tool.timeout_s) as attempt:
        await attempt.look()
        if tool.destructive and tool.category not in call.access.unconfirmed:
            await _confirm(call, conversation, await _question(call, contexts, conversation, arguments, parsed))
        async with contexts.open(call, conversation, read_only=False) as ctx:
            attempt.guard(ctx.db)
            value = await _within_time(call, contexts, conversation, tool.function(ctx, **parsed))
            structured = _serialised(call, value)
            outcome, effect = _answer(value, structured), _kept_effect(structured)
            audit.record(ctx.db, principal, tool.name, arguments, effect, request_id=call.request_id)
            await attempt.remember(ctx.db, outcome)
        return outcome


async def _begin(
    call: Call, contexts: Contexts, begin: Begin, arguments: Mapping[str, Any], parsed: Mapping[str, Any]
) -> Outcome:
    """Store the call as a task, once the person has answered what is asked before one."""
    tool, conversation = call.tool, Conversation(call.client)
    fingerprint = fingerprint_of(call.principal, tool.name, arguments, key=call.key, state=call.state, as_task=True)
    async with contexts.replays.attempt(fingerprint, call.delivery, timeout_s=tool.timeout_s) as attempt:
        await attempt.look()
        if tool.destructive and tool.category not in call.access.unconfirmed:
            await _confirm(call, conversation, await _question(call, contexts, conversation, arguments, parsed))
        if tool.asks is not None:
            async with contexts.open(call, conversation, read_only=True) as ctx:
                await _within_time(call, contexts, conversation, tool.asks(ctx, **parsed))
        async with contexts.open(call, conversation, read_only=False) as ctx:
            attempt.guard(ctx.db)
            outcome = Outcome(task=await begin(ctx))
            await attempt.remember(ctx.db, outcome)
        return outcome


async def _run_raw(call: Call, contexts: Contexts, arguments: Mapping[str, Any]) -> Outcome:
    result = await _within_time(call, contexts, None, call.tool.function(call.raw_context, dict(arguments)))
    if not isinstance(result, mcp.CallToolResult | mcp.InputRequiredResult):
        raise TypeError(f"the raw tool {call.tool.name} returned {type(result).__name__}, not a result of the SDK")
    return Outcome(raw=result)


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
        return _visible(await _within_time(call, contexts, None, call.tool.question(ctx, **parsed)))


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


async def _within_time(
    call: Call, contexts: Contexts, conversation: Conversation | None, running: Awaitable[Any]
) -> Any:
    with contexts.clock(call.tool.timeout_s, call.watch) as clock:
        if conversation is not None:
            conversation.clock = clock
        return await running
    raise _timed_out(call)


def _timed_out(call: Call) -> TimedOut:
    return TimedOut(
        f"{call.tool.wire_title} took over {call.tool.timeout_s:g} seconds and was stopped; nothing was changed.",
        next_step="Ask for less at a time, or try again later.",
        retryable=True,
    )


def _serialised(call: Call, value: Any) -> bytes:
    structured = call.tool.dump(value)
    if len(structured) > LONGEST_ANSWER_BYTES:
        raise AnswerTooLarge(
            f"The answer would be {len(structured):,} bytes, more than the {LONGEST_ANSWER_BYTES:,} that a model "
            "should read.",
            next_step="Narrow it: a smaller `limit`, a filter, or `detail: concise`.",
        )
    return structured


def _kept_effect(structured: bytes) -> Mapping[str, Any]:
    if len(structured) > _KEPT_EFFECT_BYTES:
        return {"bytes": len(structured)}
    effect: Mapping[str, Any] = orjson.loads(structured)
    return effect


def _answer(value: Any, structured: bytes) -> Outcome:
    if not isinstance(value, Reply):
        return Outcome(structured)
    content = [*value.content, *value.links]
    if not value.content:
        content.insert(0, mcp.TextContent(text=structured.decode()))
    return Outcome(structured, content, value.meta, changed=tuple(value.changed))


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
    uncertain = "The database went away during the call, and whether the change was made is not certain."
    if call.tool.is_raw:
        return Unavailable(uncertain, next_step="Look first, and call again only if it was not.")
    return Unavailable(
        uncertain,
        next_step="Call again with the same arguments within 10 minutes: if it was made, you get its answer, and it is "
        "not made twice.",
    )


def _fault(call: Call, error: BaseException) -> InternalFault:
    reference = secrets.token_hex(6)
    log.error(
        "tool failed", tool=call.tool.name, tenant_id=call.principal.tenant_id, reference=reference, exc_info=error
    )
    return InternalFault(reference)
