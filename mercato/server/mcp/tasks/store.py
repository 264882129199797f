"""The store: begins tasks in the ledger, and reads, answers and ends them for the credential that they belong to."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from mercato.plugins.catalog import Catalog, ScopeMissing, Unknown
from mercato.plugins.jobs import PRIORITIES, InvalidPayload
from mercato.server.auth.directory import Caller
from mercato.server.changes import Change, ChangeBus
from mercato.server.mcp.channels import EnvelopeChannel
from mercato.server.mcp.sessions.record import owner_of
from mercato.server.mcp.tasks import wire
from mercato.server.mcp.tasks.run_tool import RUN_TOOL
from mercato.server.mcp.tasks.sealing import seal, unseal
from mercato.tenancy import audit, ledger, tasks
from mercato.tenancy.database import Database
from mercato.tenancy.errors import NotFound
from mercato.tenancy.principal import Principal
from mercato.tenancy.principal_reference import reference_of
from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.tasks import Answer, Exchange, Task
from mercato.tools.call import Begin, Call
from mercato.tools.context import ToolContext
from mercato.tools.errors import LimitReached, ToolError

MOST_OPEN, MOST_OF_ONE = 400, 100
"""Tasks that have not ended: of one tenant, and of one credential."""
_RETRY_S = 30
Answers = Mapping[str, Mapping[str, Any] | None]


class TaskStore:
    """The tasks of all tenants."""

    def __init__(self, database: Database, ring: KeyRing, changes: ChangeBus, catalog: Catalog) -> None:
        self._database = database
        self._ring = ring
        self._changes = changes
        self._catalog = catalog

    def beginning(self, call: Call, channel: EnvelopeChannel) -> Begin:
        """Return what stores a call as a task, with the answers that there are by then."""

        async def begin(ctx: ToolContext) -> Mapping[str, Any]:
            task_id, owner = UUID(bytes=secrets.token_bytes(16)), owner_of(call.principal)
            every, own = await tasks.count_open(ctx.db, owner)
            if every >= MOST_OPEN or own >= MOST_OF_ONE:
                whose, most = ("this tenant", MOST_OPEN) if every >= MOST_OPEN else ("this user or key", MOST_OF_ONE)
                raise LimitReached("open_tasks", whose=whose, most=most, window_s=0, retry_after_s=_RETRY_S)
            answers = self._sealed(call.principal.tenant_id, task_id, channel.answers)
            exchange = Exchange.begin(owner, can_ask=channel.can_ask, answers=answers)
            await ledger.enqueue(ctx.db, self._run_of(call, task_id, exchange))
            return wire.begun(task_id, exchange.begun_at)

        return begin

    def _sealed(self, tenant_id: int, task_id: UUID, answers: Answers) -> dict[str, Answer]:
        return {
            key: None if given is None else seal(self._ring, tenant_id, "exchange", task_id.int, given)
            for key, given in answers.items()
        }

    def _run_of(self, call: Call, task_id: UUID, exchange: Exchange) -> ledger.NewJob:
        payload = {
            "tool": call.tool.name,
            "sealed_for": task_id,
            "sealed": seal(self._ring, call.principal.tenant_id, "payload", task_id.int, dict(call.arguments)),
            "arguments": audit.masked(dict(call.arguments)),
            "principal": reference_of(call.principal),
            "request_id": call.request_id,
        }
        try:
            stored = RUN_TOOL.dump(payload)
        except InvalidPayload:
            raise ToolError(
                "These arguments are too long for a task.", next_step="Pass less at a time, or a reference to it."
            ) from None
        return ledger.NewJob(
            name=RUN_TOOL.name,
            version=RUN_TOOL.version,
            payload=stored,
            attempts=RUN_TOOL.retries.attempts,
            priority=PRIORITIES[RUN_TOOL.priority],
            task_id=task_id,
            exchange=exchange.dump(),
        )

    async def read(self, caller: Caller, task_id: UUID) -> Task:
        """Return a task, to whom its tool is open now. Raises `NotFound`, for another credential's too."""
        async with self._database.tenant(caller.principal.tenant_id, read_only=True) as db:
            task = await tasks.read_task(db, task_id, owner_of(caller.principal))
        try:
            caller.sees(self._catalog).tool(task.tool)
        except (Unknown, ScopeMissing, ToolError):
            raise NotFound("There is no such task.") from None
        return task

    async def owned(self, principal: Principal, texts: Collection[str]) -> frozenset[str]:
        """Return which of these ids are of tasks of this credential."""
        task_ids = {task_id for text in texts if (task_id := task_id_of(text)) is not None}
        if not task_ids:
            return frozenset()
        async with self._database.tenant(principal.tenant_id, read_only=True) as db:
            return frozenset(task_id.hex for task_id in await tasks.owned(db, task_ids, owner_of(principal)))

    async def shown(self, caller: Caller, task_id: UUID) -> dict[str, Any]:
        """Return all there is to say of a task. Raises `NotFound`."""
        task = await self.read(caller, task_id)
        return wire.detailed(task, self._result_of(caller.principal.tenant_id, task))

    def _result_of(self, tenant_id: int, task: Task) -> Mapping[str, Any] | None:
        if task.state != "done" or task.result is None:
            return None
        result: Mapping[str, Any] = unseal(self._ring, tenant_id, "result", task.run_id, task.result["sealed"])
        return result

    async def answer(self, principal: Principal, task_id: UUID, answers: Answers) -> None:
        """Take answers to what a task asks. Raises `NotFound`."""
        sealed = self._sealed(principal.tenant_id, task_id, answers)
        async with self._database.tenant(principal.tenant_id) as db:
            goes_on = await tasks.answer(db, task_id, owner_of(principal), sealed)
        if goes_on:
            await self.tell(principal.tenant_id, task_id)

    async def cancel(self, principal: Principal, task_id: UUID) -> None:
        """End a task, if it has not ended. Raises `NotFound`."""
        async with self._database.tenant(principal.tenant_id) as db:
            task = await tasks.read_task(db, task_id, owner_of(principal))
            state = await tasks.cancel(db, task)
        if state == "cancelled":
            await self.tell(principal.tenant_id, task_id)

    async def tell(self, tenant_id: int, task_id: UUID) -> None:
        """Tell those who listen that a task has changed."""
        await self._changes.publish(Change("task", tenant_id, task_id.hex))


def task_id_of(text: str) -> UUID | None:
    """Return the id that a client sent; None where it is none of ours."""
    try:
        task_id = UUID(hex=text)
    except ValueError:
        return None
    return task_id if task_id.hex == text else None
