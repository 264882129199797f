"""The methods of the extension: get, update, cancel. A task of another tenant or credential is unknown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import mcp_types as mcp
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field, ValidationError

from mercato.server.mcp.callers import Callers
from mercato.server.mcp.tasks.extension import EXTENSION, is_declared, not_declared
from mercato.server.mcp.tasks.store import TaskStore, task_id_of
from mercato.tenancy.errors import NotFound
from mercato.tenancy.tasks import Question

LARGEST_ANSWERS_BYTES = 64 * 1024

Ctx = ServerRequestContext[Any, Any]


class TaskParams(mcp.RequestParams):
    """Which task."""

    task_id: str


class TaskUpdateParams(TaskParams):
    """Answers to what a task asks, by the keys of its questions."""

    input_responses: dict[str, Any] = Field(default_factory=dict)


class TaskMethods:
    """Answers requests about tasks."""

    def __init__(self, store: TaskStore, callers: Callers) -> None:
        self._store = store
        self._callers = callers

    def register(self, server: Server[Any]) -> None:
        """Declare the extension and serve its methods."""
        server.extensions[EXTENSION] = {}
        server.add_request_handler("tasks/get", TaskParams, self.get)
        server.add_request_handler("tasks/update", TaskUpdateParams, self.update)
        server.add_request_handler("tasks/cancel", TaskParams, self.cancel)

    async def get(self, ctx: Ctx, params: TaskParams) -> Any:
        """Return all there is to say of a task."""
        task_id = _checked(ctx, params)
        try:
            return await self._store.shown(await self._callers.caller(ctx), task_id)
        except NotFound:
            raise _unknown() from None

    async def update(self, ctx: Ctx, params: TaskUpdateParams) -> Any:
        """Take answers to what a task asks; what it does not ask is left out."""
        task_id, caller = _checked(ctx, params), await self._callers.caller(ctx)
        try:
            task = await self._store.read(caller, task_id)
            answers = _answers(task.exchange.questions, params.input_responses)
            await self._store.answer(caller.principal, task_id, answers)
        except NotFound:
            raise _unknown() from None
        return {}

    async def cancel(self, ctx: Ctx, params: TaskParams) -> Any:
        """End a task; one that has ended stays as it is."""
        task_id = _checked(ctx, params)
        try:
            await self._store.cancel(self._callers.principal(ctx), task_id)
        except NotFound:
            raise _unknown() from None
        return {}


def _checked(ctx: Ctx, params: TaskParams) -> UUID:
    """Return the id of the task. Raises `MCPError` where the request may not be made, or contradicts its headers."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(mcp.METHOD_NOT_FOUND, "Method not found")
    if not is_declared(ctx):
        raise not_declared()
    if ctx.request is not None and decode_header_value(ctx.request.headers.get(MCP_NAME_HEADER)) != params.task_id:
        raise MCPError(
            mcp.HEADER_MISMATCH, f"{MCP_NAME_HEADER} header does not match the request body's 'taskId' parameter"
        )
    task_id = task_id_of(params.task_id)
    if task_id is None:
        raise _unknown()
    return task_id


def _unknown() -> MCPError:
    return MCPError(mcp.INVALID_PARAMS, "There is no such task, or it belongs to another client.")


def _answers(asked: Mapping[str, Question], given: Mapping[str, Any]) -> dict[str, Mapping[str, Any] | None]:
    """Return the answers to what is asked. Raises `MCPError` for one that does not fit: the question stands."""
    answers: dict[str, Mapping[str, Any] | None] = {}
    for key in asked.keys() & given.keys():
        try:
            said = mcp.ElicitResult.model_validate(given[key], by_name=False)
        except ValidationError:
            text = f"inputResponses[{key!r}] must be the result of an elicitation: an `action`, and its `content`."
            raise MCPError(mcp.INVALID_PARAMS, text) from None
        answers[key] = (said.content or {}) if said.action == "accept" else None
        if answers[key] is not None:
            _check_fit(key, asked[key], answers[key])
    dumped = json.dumps(answers)
    if "\\u0000" in dumped:
        raise MCPError(mcp.INVALID_PARAMS, "The answers contain a character that cannot be stored (NUL).")
    if len(dumped) > LARGEST_ANSWERS_BYTES:
        raise MCPError(mcp.INVALID_PARAMS, f"The answers may have {LARGEST_ANSWERS_BYTES:,} bytes.")
    return answers


def _check_fit(key: str, asked: Question, content: Any) -> None:
    fault = best_match(Draft202012Validator(dict(asked.schema)).iter_errors(content))
    if fault is not None:
        place = "".join(f"[{part!r}]" for part in (key, "content", *fault.absolute_path))
        raise MCPError(mcp.INVALID_PARAMS, f"inputResponses{place} does not fit what is asked: {fault.message}.")
