"""Questions: requests of ours to the client, whose answers may come to any replica."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mcp_types as mcp
import orjson
import structlog
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.exceptions import MCPError

from mercato.server.mcp.sessions import encoding, names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.store import Away, Store
from mercato.server.mcp.sessions.streams import SessionGone
from mercato.server.script import Argument

log = structlog.stdlib.get_logger(__name__)

Write = Callable[[bytes, str], Awaitable[None]]
"""Sends a message to the client; with the id of the question that it puts, if it puts one."""


@dataclass(slots=True)
class _Waiting:
    session_id: str
    answer: asyncio.Future[Mapping[str, Any]]
    on_progress: ProgressFnT | None


class Questions:
    """Asks, and waits. That this replica waits is noted in Redis before the question leaves, in the same step."""

    def __init__(self, store: Store, background: Background, bounds: Bounds) -> None:
        self._store = store
        self._background = background
        self._bounds = bounds
        self._waiting: dict[str, _Waiting] = {}

    async def ask(
        self,
        session_id: str,
        write: Write,
        method: str,
        params: Mapping[str, Any] | None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """Send a request to the client and return its result. Raises `MCPError`, its own or ours."""
        options = options or {}
        question = secrets.token_urlsafe(24)
        on_progress = options.get("on_progress")
        waiting = _Waiting(session_id, asyncio.get_running_loop().create_future(), on_progress)
        self._waiting[question] = waiting
        try:
            await self._put(write, question, method, _with_token(params, question) if on_progress else params)
            return await self._answer(waiting, write, question, method, options)
        finally:
            del self._waiting[question]

    async def answer(self, session_id: str, raw: Mapping[str, Any]) -> None:
        """Take in an answer of the client. One that nobody of this session waits for is nothing. Raises `Away`."""
        question = raw.get("id")
        if not isinstance(question, str):
            return
        keys = [names.part_key(session_id, "waits"), names.part_key(session_id, "replies")]
        message = f"reply {session_id} {question}"
        given: list[Argument] = [
            question,
            encoding.encode(raw),
            self._bounds.idle_s,
            names.replica_channel(""),
            message,
        ]
        await self._store.run("answer", keys, given)

    async def progress(self, session_id: str, params: Mapping[str, Any]) -> None:
        """Take in how far the client is with a question. Raises `Away`."""
        question = params.get("progressToken")
        if not isinstance(question, str):
            return
        async with self._store.answering() as redis:
            replica = await redis.hget(names.part_key(session_id, "waits"), question)  # type: ignore[misc]  # typed for both clients
            if replica is not None:
                message = b"progress %s %s" % (session_id.encode(), orjson.dumps(params))
                await redis.publish(names.replica_channel(replica.decode()), message)

    def heard_reply(self, session_id: str, question: str) -> None:
        """Take in that a question of ours was answered."""
        waiting = self._waiting.get(question)
        if waiting is not None and waiting.session_id == session_id:
            self._background.start(self._collect(question, waiting))

    def heard_progress(self, session_id: str, params: Mapping[str, Any]) -> None:
        """Take in how far the client is with a question of ours."""
        waiting = self._waiting.get(str(params.get("progressToken")))
        done, total, message = params.get("progress"), params.get("total"), params.get("message")
        if waiting is None or waiting.session_id != session_id or waiting.on_progress is None:
            return
        if isinstance(done, int | float) and not isinstance(done, bool):
            self._background.start(_report(waiting.on_progress, float(done), total, message))

    def resynced(self) -> None:
        """Look for answers that may have been missed."""
        for question, waiting in self._waiting.items():
            self._background.start(self._collect(question, waiting))

    async def _put(self, write: Write, question: str, method: str, params: Mapping[str, Any] | None) -> None:
        try:
            await write(encoding.request(question, method, params), question)
        except Away:
            raise MCPError(mcp.INTERNAL_ERROR, "The client cannot be asked at the moment: try again later.") from None
        except SessionGone:
            raise MCPError(mcp.CONNECTION_CLOSED, "The session has ended.") from None

    async def _answer(
        self, waiting: _Waiting, write: Write, question: str, method: str, options: CallOptions
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(options.get("timeout", self._bounds.question_s)):
                raw = await waiting.answer
        except TimeoutError:
            await self._withdraw(waiting.session_id, write, question, options)
            raise MCPError(mcp.REQUEST_TIMEOUT, f"The client did not answer {method!r} in time.") from None
        except asyncio.CancelledError:
            self._background.start(self._withdraw(waiting.session_id, write, question, options))
            raise
        if "error" in raw:
            raise _error_of(raw["error"])
        return dict(raw["result"]) if isinstance(raw.get("result"), Mapping) else {}

    async def _withdraw(self, session_id: str, write: Write, question: str, options: CallOptions) -> None:
        """Wait no more, and tell the client that it need not answer."""
        with suppress(Away, SessionGone):
            async with self._store.answering() as redis:
                await redis.hdel(names.part_key(session_id, "waits"), question)  # type: ignore[misc]  # typed for both clients
            if options.get("cancel_on_abandon", True):
                params = {"requestId": question, "reason": "The server waits no more."}
                await write(encoding.notification("notifications/cancelled", params), "")

    async def _collect(self, question: str, waiting: _Waiting) -> None:
        keys = [names.part_key(waiting.session_id, "replies")]
        raw: bytes | None = await self._store.run("collect", keys, [question])
        if raw is not None and not waiting.answer.done():
            waiting.answer.set_result(orjson.loads(raw))


def _with_token(params: Mapping[str, Any] | None, question: str) -> dict[str, Any]:
    given = dict(params or {})
    return {**given, "_meta": {**(given.get("_meta") or {}), "progressToken": question}}


def _error_of(error: Any) -> MCPError:
    """Return the client's error; what is none by its form is one of its making too."""
    if isinstance(error, Mapping) and isinstance(error.get("code"), int) and isinstance(error.get("message"), str):
        return MCPError(error["code"], error["message"], error.get("data"))
    return MCPError(mcp.INTERNAL_ERROR, "The client answered with an error that is none.")


async def _report(on_progress: ProgressFnT, done: float, total: Any, message: Any) -> None:
    await on_progress(
        done, total if isinstance(total, int | float) else None, message if isinstance(message, str) else None
    )
