"""Fates: what became of answers. Known in this process at once, and written down in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mercato.tenancy import answers
from mercato.tenancy.database import Database
from mercato.tools.replays import Fingerprint

log = structlog.stdlib.get_logger(__name__)

_LINGER_S, _RETRY_S, _STOP_S = 0.2, 0.5, 5.0
_MOST_AT_ONCE, _MOST_KEPT, _MOST_UNWRITTEN = 500, 10_000, 50_000


@dataclass(slots=True, eq=False)
class Mark:
    """The word for other processes that a running call has lost its caller, for as long as it runs."""

    call: Fingerprint
    at: datetime
    id: int | None = None
    is_over: bool = False


class Fates:
    """Answers whose fate is known. An answer whose fate is never written counts as lost, which is the safe side."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self.decided: dict[int, bool] = {}
        self._unwritten: dict[int, bool] = {}
        self._marks: list[Mark] = []
        self._wake, self._urgent = asyncio.Event(), asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def decide(self, answer_id: int, *, delivered: bool) -> None:
        """Say what became of an answer."""
        self.decided[answer_id] = self._unwritten[answer_id] = delivered
        self._wake.set()

    def mark(self, call: Fingerprint) -> Mark:
        """Let the other processes know that a running call has lost its caller."""
        mark = Mark(call, self._clock())
        self._marks.append(mark)
        self._urgent.set()
        self._wake.set()
        return mark

    def unmark(self, mark: Mark) -> None:
        """Take that back: the call has come to its end."""
        mark.is_over = True
        self._marks.append(mark)
        self._wake.set()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="mercato-replays")

    async def stop(self) -> None:
        """Write what is known. Gives up after some seconds where the database is away."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(TimeoutError, SQLAlchemyError, OSError):
            async with asyncio.timeout(_STOP_S):
                await self.flush()

    async def flush(self) -> None:
        """Write what is known up to now. Raises what the database raises; nothing is forgotten then."""
        async with self._turn:
            await self._write_marks()
            while self._unwritten:
                batch = dict(islice(self._unwritten.items(), _MOST_AT_ONCE))
                await answers.write_fates(self._database, batch)
                for answer_id, fate in batch.items():
                    if self._unwritten.get(answer_id) is fate:
                        del self._unwritten[answer_id]
            self._forget()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            with suppress(TimeoutError):  # one transaction for all that are decided meanwhile
                async with asyncio.timeout(_LINGER_S):
                    await self._urgent.wait()  # a repeat at another process waits no longer for that word
            self._wake.clear()
            self._urgent.clear()
            try:
                await self.flush()
            except (SQLAlchemyError, OSError) as error:
                log.warning("what became of answers waits for the database", error=type(error).__name__)
                self._bound()
                self._wake.set()
                await asyncio.sleep(_RETRY_S)

    async def _write_marks(self) -> None:
        while self._marks:
            mark = self._marks[0]
            if mark.is_over and mark.id is not None:
                await answers.unmark(self._database, mark.id)
            elif not mark.is_over:
                mark.id = await answers.mark_abandoned(self._database, mark.call, mark.at)
            self._marks.pop(0)

    def _forget(self) -> None:
        """Keep the latest: a look-up may have read a row just before its fate was written."""
        for answer_id in list(islice(self.decided, max(0, len(self.decided) - _MOST_KEPT))):
            if answer_id not in self._unwritten:
                del self.decided[answer_id]

    def _bound(self) -> None:
        for answer_id in list(islice(self._unwritten, max(0, len(self._unwritten) - _MOST_UNWRITTEN))):
            del self._unwritten[answer_id]
