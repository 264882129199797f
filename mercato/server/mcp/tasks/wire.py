"""Tasks as they go over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import mcp_types as mcp

from mercato.tenancy.ledger import State
from mercato.tenancy.tasks import KEPT, Question, Task

Status = Literal["working", "input_required", "completed", "failed", "cancelled"]
POLL_MS = 1_000
_STATUS: Mapping[State, Status] = {
    "queued": "working",
    "running": "working",
    "retrying": "working",
    "waiting": "input_required",
    "done": "completed",
    "dead": "failed",
    "cancelled": "cancelled",
}


def begun(task_id: UUID, now: datetime) -> dict[str, Any]:
    """Return the answer to a call that was stored as a task."""
    return {"resultType": "task", **_head(task_id, "working", now, now)}


def detailed(task: Task, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return all there is to say of a task; `result` is what its run returned, readable.

    A tool that reported an error has completed; only one that the protocol itself has an error for has failed.
    """
    status = _STATUS[task.state]
    if status == "completed" and result is not None and "error" in result:
        return {**_head(task.id, "failed", task.exchange.begun_at, task.changed_at), "error": result["error"]}
    shown = _head(task.id, status, task.exchange.begun_at, task.changed_at)
    if message := _message(task):
        shown["statusMessage"] = message
    if status == "completed":
        shown["result"] = {} if result is None else result["result"]
    elif status == "failed":
        shown["error"] = {"code": mcp.INTERNAL_ERROR, "message": task.error or "It failed."}
    elif status == "input_required":
        shown["inputRequests"] = {key: _request(asked) for key, asked in task.exchange.questions.items()}
    return shown


def _head(task_id: UUID, status: Status, created_at: datetime, changed_at: datetime) -> dict[str, Any]:
    return {
        "taskId": task_id.hex,
        "status": status,
        "createdAt": _time(created_at),
        "lastUpdatedAt": _time(changed_at),
        "ttlMs": int(KEPT.total_seconds()) * 1_000,
        "pollIntervalMs": POLL_MS,
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(task: Task) -> str | None:
    """Return what a person reads of a task that has not ended."""
    if task.state == "waiting":
        return " ".join(asked.message for asked in task.exchange.questions.values())
    if task.progress is None or task.state in {"done", "dead", "cancelled"}:
        return None
    if task.progress["message"]:
        return str(task.progress["message"])
    total = task.progress["total"]
    return f"{task.progress['done']:g}" + (f" of {total:g}" if total is not None else "")


def _request(asked: Question) -> dict[str, Any]:
    params = mcp.ElicitRequestFormParams(message=asked.message, requested_schema=dict(asked.schema))
    request = mcp.ElicitRequest(params=params)
    dumped: dict[str, Any] = request.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dumped
