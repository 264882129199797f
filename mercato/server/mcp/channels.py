"""How the client at the other end is reached during a call: by a request of ours, or by the result itself."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import mcp_types as mcp
import orjson
from mcp.server import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mercato.tools.context import InputRequired
from mercato.tools.errors import ConfirmationNeeded
from mercato.tools.schema import Schema


class Channel:
    """What both eras share: progress goes as a notification of the request."""

    @property
    def exchange(self) -> str | None:
        """The exchange of questions that this request goes on with, and whose call has one effect; None for none."""
        return None

    def __init__(self, ctx: ServerRequestContext[Any, Any]) -> None:
        self._ctx = ctx

    @property
    def _elicits(self) -> bool:
        capabilities = self._ctx.session.client_capabilities
        return capabilities is not None and capabilities.elicitation is not None

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Tell how far the work is; nothing is sent without a progress token."""
        await self._ctx.session.report_progress(done, total, message)


class HandshakeChannel(Channel):
    """2025-11-25 and before: a question is a request of ours, where the transport has a way back."""

    @property
    def can_ask(self) -> bool:
        """Whether the client can put a question to its user."""
        return self._ctx.session.can_send_request and self._elicits

    async def ask(self, key: str, message: str, schema: Schema) -> Mapping[str, Any] | None:
        """Ask and wait. Raises `ConfirmationNeeded` where nobody can be asked."""
        if not self.can_ask:
            raise cannot_ask(message, schema)
        answer = await self._ctx.session.elicit_form(message, schema, related_request_id=self._ctx.request_id)
        return _content(answer)


@dataclass(slots=True)
class _Round:
    """What the request state says: the question that was put last, and the answers there are."""

    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    asked: str | None = None
    answers: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)


class EnvelopeChannel(Channel):
    """2026-07-28: a question ends the request; the client repeats it with the answer, and the call runs again.

    The question that was asked and the answers of earlier rounds travel in the request state, which is sealed and
    bound to caller, tool and arguments before it leaves. An answer counts only where the state says that it was asked
    for: a client cannot answer what nobody has put to it.
    """

    def __init__(
        self, ctx: ServerRequestContext[Any, Any], answers: Mapping[str, Any] | None, state: str | None
    ) -> None:
        super().__init__(ctx)
        self._answers = answers or {}
        self._state = state

    @cached_property
    def _round(self) -> _Round:
        # Read when something is asked: the state of a raw tool is its own, and need not be JSON.
        return _Round(**orjson.loads(self._state)) if self._state else _Round()

    @property
    def exchange(self) -> str | None:
        """The exchange that this request goes on with."""
        return self._round.id if self._state else None

    @property
    def answers(self) -> Mapping[str, Mapping[str, Any] | None]:
        """What was asked and answered in this exchange, by the keys of the questions."""
        return self._round.answers

    @property
    def can_ask(self) -> bool:
        """Whether the client can put a question to its user."""
        return self._elicits

    async def ask(self, key: str, message: str, schema: Schema) -> Mapping[str, Any] | None:
        """Return the answer if it is there, else leave the call. Raises `InputRequired` or `ConfirmationNeeded`."""
        if key in self._round.answers:
            return self._round.answers[key]
        answer = self._answers.get(key) if self._round.asked == key else None
        if isinstance(answer, mcp.ElicitResult):
            self._round.answers[key] = _content(answer)
            return _content(answer)
        if not self.can_ask:
            raise cannot_ask(message, schema)
        question = mcp.ElicitRequest(params=mcp.ElicitRequestFormParams(message=message, requested_schema=schema))
        state = orjson.dumps({"id": self._round.id, "answers": self._round.answers, "asked": key}).decode()
        raise InputRequired(mcp.InputRequiredResult(input_requests={key: question}, request_state=state))


def channel_of(ctx: ServerRequestContext[Any, Any], params: Any) -> HandshakeChannel | EnvelopeChannel:
    """Return the channel of a request, by its protocol era."""
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return EnvelopeChannel(ctx, params.input_responses, params.request_state)
    return HandshakeChannel(ctx)


def cannot_ask(message: str, schema: Schema) -> ConfirmationNeeded:
    """Return what a model needs to put the question itself, in its own conversation."""
    return ConfirmationNeeded(
        f"This needs an answer from the person, and this client cannot ask them: {message} "
        f"Wanted: {', '.join(_wanted(name, field) for name, field in schema['properties'].items())}.",
        next_step="Ask them yourself, then call again with the answer, if the tool has parameters for it.",
    )


def _wanted(name: str, field: Schema) -> str:
    meant = str(field.get("description", ""))
    return f"`{name}` ({meant})" if meant else f"`{name}`"


def _content(answer: mcp.ElicitResult) -> Mapping[str, Any] | None:
    return (answer.content or {}) if answer.action == "accept" else None
