"""The job behind every task: in a worker it calls the tool for whoever asked, the one way in which tools run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import mcp_types as mcp
import orjson
from mcp.shared.exceptions import MCPError

from mercato.plugins.catalog import Catalog, ScopeMissing, Unknown
from mercato.plugins.jobs import Backoff, Job, Permanent, job
from mercato.server.auth.directory import Caller, Directory
from mercato.server.changes import Change, ChangeBus
from mercato.server.contexts import ContextFactory
from mercato.server.guard import Guard
from mercato.server.jobs.opening import Settled
from mercato.server.mcp.tasks.channel import TaskChannel
from mercato.server.mcp.tasks.replays import LedgerReplays
from mercato.server.mcp.tasks.sealing import seal, unseal
from mercato.tenancy import ledger_work, tasks
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.principal_reference import find_principal
from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.tasks import Exchange
from mercato.tools.call import Call, call_tool
from mercato.tools.context import Clock, Conversation, Handover, Meter, ToolContext, Watch
from mercato.tools.errors import AnswerTooLarge, ToolError, Unavailable
from mercato.tools.outcome import INPUT_REQUIRED, Outcome

LARGEST_RESULT_BYTES = 1024 * 1024
_LONGEST_S = 24 * 60 * 60
"""Beyond any tool's own time-out, which holds here as well."""


class DatabaseAway(Exception):
    """The database went away during the run: it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What runs of tools need of their process."""

    database: Database
    ring: KeyRing
    changes: ChangeBus
    directory: Directory
    catalog: Catalog
    contexts: ContextFactory
    guard: Guard


class ToolOpening:
    """Opens runs of tools."""

    def __init__(self, parts: Parts, worker: str) -> None:
        self._parts = parts
        self._worker = worker

    @asynccontextmanager
    async def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> AsyncIterator[TaskRun]:
        """Open the context of a run; the tool's own is opened within, for whoever asked."""
        yield TaskRun(self._parts, self._worker, claimed)


@dataclass(slots=True)
class _Spent:
    """What the run has cost so far."""

    meter: Meter | None = None

    @property
    def cents(self) -> int:
        return 0 if self.meter is None else self.meter.cents


@dataclass(slots=True)
class TaskRun:
    """One run of a tool."""

    parts: Parts
    worker: str
    claimed: ledger_work.Claimed
    _meter: _Spent = field(default_factory=_Spent)
    _db: TenantDatabase | None = None

    async def call(
        self, name: str, task: UUID, sealed: str, principal: Mapping[str, Any], request_id: str
    ) -> dict[str, Any]:
        """Call the tool; return its result as it is stored. Raises `Settled` where its end is written down already."""
        caller = await self._caller(principal)
        try:
            tool = caller.sees(self.parts.catalog).tool(name)
        except ToolError as refusal:
            return self._result(Outcome(error=refusal))
        except (Unknown, ScopeMissing) as refusal:
            return self._stored({"error": {"code": mcp.INVALID_PARAMS, "message": str(refusal)}})
        ring, tenant_id = self.parts.ring, self.claimed.tenant_id
        exchange = Exchange.load(self.claimed.exchange)
        answers = {
            key: None if given is None else unseal(ring, tenant_id, "exchange", task.int, given)
            for key, given in exchange.answers.items()
        }
        channel = TaskChannel(answers, self._progress, can_ask=exchange.can_ask)
        call = Call(
            tool=tool,
            arguments=unseal(ring, tenant_id, "payload", task.int, sealed),
            principal=caller.principal,
            access=caller.access,
            client=channel,
            request_id=request_id,
            era="task",
            within_limits=True,  # they were asked when it was begun
        )
        return await self._run(call, channel)

    async def _caller(self, principal: Mapping[str, Any]) -> Caller:
        """Return who asked, with the rights that they have now. Raises `Permanent` where they have none."""
        found = await find_principal(self.parts.database, principal)
        access = None if found is None else await self.parts.directory.access(found.tenant_id)
        if found is None or access is None or found.tenant_id != self.claimed.tenant_id:
            raise Permanent("The credential that asked for this is not good any more.")
        return Caller(found, access)

    async def _run(self, call: Call, channel: TaskChannel) -> dict[str, Any]:
        async def finish(db: TenantDatabase, outcome: Outcome) -> None:
            result = orjson.dumps(self._result(outcome)).decode()
            if len(result) > LARGEST_RESULT_BYTES:
                raise AnswerTooLarge("The answer is too large to be kept.", next_step="Ask for less at a time.")
            done = ledger_work.Done(self.claimed.id, self.claimed.attempt, result, self._meter.cents)
            await ledger_work.finish_within(db, done, self.worker)

        replays = LedgerReplays(finish)
        try:
            outcome = await call_tool(call, _Contexts(self.parts.contexts, replays, self._meter), self.parts.guard)
        except MCPError as error:
            return self._stored({"error": error.error.model_dump(mode="json", exclude_none=True)})
        except Handover:
            raise ledger_work.LeaseLost from None
        for uri in outcome.changed:
            await self.parts.changes.publish(Change("resource", call.principal.tenant_id, uri))
        if isinstance(outcome.error, Unavailable):
            raise DatabaseAway(outcome.error.message)
        if outcome.code == INPUT_REQUIRED:
            await self._park(channel)
        if replays.has_finished:
            raise Settled("done")
        return self._result(outcome)

    async def _park(self, channel: TaskChannel) -> None:
        """Leave the worker until the person has answered. Raises `Settled`."""
        exchange = Exchange.load(self.claimed.exchange).with_questions(channel.asked)
        cents = self._meter.cents
        state = await tasks.park(
            self.parts.database.pool, self.claimed.id, self.claimed.attempt, self.worker, exchange, cents
        )
        if state is None:
            raise ledger_work.LeaseLost
        raise Settled(state)

    async def _progress(self, done: float, total: float | None, message: str | None) -> None:
        pool, run = self.parts.database.pool, self.claimed
        await ledger_work.note_progress(pool, run.id, run.attempt, done, total, message)
        if self.claimed.task_id is not None:
            await self.parts.changes.publish(Change("task", self.claimed.tenant_id, self.claimed.task_id.hex))

    def _result(self, outcome: Outcome) -> dict[str, Any]:
        result: Any = outcome.result()
        return self._stored({"result": result.model_dump(by_alias=True, mode="json", exclude_none=True)})

    def _stored(self, said: dict[str, Any]) -> dict[str, Any]:
        return {"sealed": seal(self.parts.ring, self.claimed.tenant_id, "result", self.claimed.id, said)}


class _Opens(Protocol):
    """What opens the contexts of calls, but for their replays."""

    def open(self, call: Call, conversation: Conversation, *, read_only: bool) -> Any:
        """Open one."""

    def clock(self, seconds: float, watch: Watch | None = None) -> Clock:
        """Return what stops a block."""


class _Contexts:
    """The contexts of the process, with the replays of one run."""

    def __init__(self, contexts: _Opens, replays: LedgerReplays, spent: _Spent) -> None:
        self._contexts = contexts
        self.replays = replays
        self._spent = spent

    def open(
        self, call: Call, conversation: Conversation, *, read_only: bool
    ) -> AbstractAsyncContextManager[ToolContext]:
        opened: AbstractAsyncContextManager[ToolContext] = self._contexts.open(call, conversation, read_only=read_only)
        self._spent.meter = call.meter
        return opened

    def clock(self, seconds: float, watch: Watch | None = None) -> Clock:
        return self._contexts.clock(seconds, watch)


@job(
    tasks.RUN_TOOL,
    retries=Backoff(attempts=5, base_s=2, factor=4, cap_s=60),
    timeout_s=_LONGEST_S,
    priority="high",
    tenant_concurrency=5,
    largest_result_bytes=LARGEST_RESULT_BYTES,
)
async def run_tool(
    ctx: TaskRun,
    tool: str,
    sealed_for: UUID,
    sealed: str,
    principal: dict[str, Any],
    request_id: str,
    arguments: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Call a tool that a client follows as a task. `arguments` are for people; the run's own are sealed."""
    return await ctx.call(tool, sealed_for, sealed, principal, request_id)


RUN_TOOL: Job[..., Any] = run_tool
