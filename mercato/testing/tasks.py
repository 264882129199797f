"""Tasks in tests: a client that begins tools as tasks, answers what they ask, and reads what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mcp_types as mcp
from mcp import Client
from pydantic import RootModel

Answers = Mapping[str, Mapping[str, Any] | None]


class _AsSent(RootModel[dict[str, Any]]):
    """A result as it went over the wire."""


class TaskClient:
    """A client that takes tasks. What it returns is as it went over the wire."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, name: str, answers: Answers | None = None, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool; return its task, or its result where there is none. `answers` are to what is asked before.

        Raises `AssertionError` for a question that has no answer among them.
        """
        params: dict[str, Any] = {"name": name, "arguments": arguments}
        asked: set[str] = set()
        while (result := await self._send("tools/call", params)).get("resultType") == "input_required":
            questions = result["inputRequests"]
            if missing := [key for key in questions if key in asked or key not in (answers or {})]:
                message = questions[missing[0]]["params"]["message"]
                raise AssertionError(f"{name} asks {missing[0]!r} before there is a task: {message}")
            asked.update(questions)
            responses = _responses({key: (answers or {})[key] for key in questions})
            params |= {"inputResponses": responses, "requestState": result["requestState"]}
        return result

    async def get(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Return all there is to say of a task: `status`, and `result`, `error` or `inputRequests`."""
        return await self._send("tasks/get", {"taskId": task["taskId"]})

    async def answer(self, task: Mapping[str, Any], **answers: Mapping[str, Any] | None) -> None:
        """Answer questions by their keys, each with what its form is filled in with; None declines.

        Raises `AssertionError` for what the task does not ask.
        """
        asked = (await self.get(task)).get("inputRequests", {})
        if unasked := answers.keys() - asked.keys():
            raise AssertionError(f"the task does not ask {sorted(unasked)}; it asks {sorted(asked)}")
        await self._send("tasks/update", {"taskId": task["taskId"], "inputResponses": _responses(answers)})

    async def cancel(self, task: Mapping[str, Any]) -> None:
        """End a task."""
        await self._send("tasks/cancel", {"taskId": task["taskId"]})

    async def _send(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        request = mcp.Request[dict[str, Any], str](method=method, params=params)
        return (await self._client.session.send_request(request, _AsSent)).root


async def cannot_be_asked(context: Any, params: Any) -> mcp.ElicitResult:
    """Declare that the client can ask: its test answers itself."""
    raise AssertionError("questions of tasks are answered by `answer`")


def _responses(answers: Answers) -> dict[str, Any]:
    return {
        key: {"action": "decline"} if given is None else {"action": "accept", "content": dict(given)}
        for key, given in answers.items()
    }
