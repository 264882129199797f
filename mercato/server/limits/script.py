"""Scripts that run inside Redis, so that what they look at and what they change is one step."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

_TIMEOUT_S, _LATE_S = 0.25, 0.05
_MOST_AT_ONCE = 100


class HeldUp(TimeoutError):
    """Nobody looked for the answer in time: this process was held up, and Redis may well have answered."""


@dataclass(slots=True)
class _Run:
    """One run that somebody waits for."""

    keys: Sequence[str]
    arguments: Sequence[int | bytes]
    answer: asyncio.Future[list[int]]


class Script:
    """One Lua file beside this one, called by its digest, and sent whole where Redis does not know it (any more).

    What is asked while an answer is awaited is sent together when it has come: a crowd needs one connection, not one
    for each. Where Redis does not answer in time, all that wait are told so at once.
    """

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._text = Path(__file__).with_name(name).read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        self._waiting: list[_Run] = []
        self._sender: asyncio.Task[None] | None = None

    async def __call__(self, keys: Sequence[str], *arguments: int | bytes) -> list[int]:
        """Run it; it answers with whole numbers. Raises `RedisError`, `OSError` or `TimeoutError`."""
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Run(keys, arguments, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="mercato-limits")
        return await answer

    async def _send_all(self) -> None:
        runs: list[_Run] = []
        now, due = asyncio.get_running_loop().time, 0.0
        try:
            while self._waiting:
                runs, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
                due = now() + _TIMEOUT_S
                async with asyncio.timeout_at(due):
                    answers = await self._run_all(runs)
                for run, answer in zip(runs, answers, strict=True):
                    _tell(run, answer)
        except (RedisError, OSError, TimeoutError) as error:
            told = HeldUp() if isinstance(error, TimeoutError) and now() > due + _LATE_S else error
            for run in runs + self._waiting:
                _tell(run, told)
            self._waiting = []
        finally:
            for run in runs + self._waiting:
                run.answer.cancel()  # whoever has been told keeps what they were told
            self._waiting, self._sender = [], None

    async def _run_all(self, runs: Sequence[_Run]) -> list[Any]:
        answers = await self._send(runs)
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            await self._redis.script_load(self._text)
            again = await self._send([runs[number] for number in unknown])
            for number, answer in zip(unknown, again, strict=True):
                answers[number] = answer
        return answers

    async def _send(self, runs: Sequence[_Run]) -> list[Any]:
        if len(runs) == 1:  # a pipeline costs half as much again
            try:
                answer = await self._redis.execute_command(*self._command(runs[0]))  # type: ignore[no-untyped-call]  # redis-py has none
                return [answer]
            except NoScriptError as error:
                return [error]
        pipeline = self._redis.pipeline(transaction=False)
        for run in runs:
            pipeline.execute_command(*self._command(run))
        return list(await pipeline.execute(raise_on_error=False))

    def _command(self, run: _Run) -> tuple[str | int | bytes, ...]:
        return ("EVALSHA", self._sha, len(run.keys), *run.keys, *run.arguments)


def _tell(run: _Run, answer: list[int] | BaseException) -> None:
    if run.answer.done():  # they were cancelled while they waited
        return
    if isinstance(answer, BaseException):
        run.answer.set_exception(answer)
    else:
        run.answer.set_result(answer)
