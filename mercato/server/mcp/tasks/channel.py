"""The client of a task, as its tool reaches it: what it asks is stored, and so is how far it is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as mcp

from mercato.server.mcp.channels import cannot_ask
from mercato.tenancy.tasks import Question
from mercato.tools.context import InputRequired
from mercato.tools.schema import Schema

_PAUSE_S = 0.25
"""How often progress is written at most: each time is a write to the database."""

Answers = Mapping[str, Mapping[str, Any] | None]
Tell = Callable[[float, float | None, str | None], Awaitable[None]]


class TaskChannel:
    """Answers what was asked before, and ends the run at a question that is new; `asked` has all of those then."""

    def __init__(self, answers: Answers, tell: Tell, *, can_ask: bool) -> None:
        self._answers = answers
        self._tell = tell
        self.can_ask = can_ask
        self._told_at = 0.0
        self.asked: dict[str, Question] = {}

    async def ask(self, key: str, message: str, schema: Schema) -> Mapping[str, Any] | None:
        """Return the answer if it is there. Raises `InputRequired` or `ConfirmationNeeded`."""
        if key in self._answers:
            return self._answers[key]
        if not self.can_ask:
            raise cannot_ask(message, schema)
        self.asked[key] = Question(message, schema)
        question = mcp.ElicitRequest(params=mcp.ElicitRequestFormParams(message=message, requested_schema=schema))
        raise InputRequired(mcp.InputRequiredResult(input_requests={key: question}))

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Write down how far the work is; of many words in a short time, the first and the last."""
        now = time.monotonic()
        if now - self._told_at >= _PAUSE_S or done == total:
            self._told_at = now
            await self._tell(done, total, message)
