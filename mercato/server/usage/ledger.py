"""The ledger: notes what every call came to, and writes it to PostgreSQL in batches."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from redis.asyncio import Redis
from sqlalchemy.exc import DBAPIError

from mercato.server.usage.admissions import AdmissionCounter
from mercato.tenancy.database import Database, is_outage
from mercato.tenancy.usage import UsageWriter, Used

log = structlog.stdlib.get_logger(__name__)

MOST_KEPT = 200_000
"""Records that wait for a database which is away; then the oldest go."""
_FLUSH_S, _RETRY_S, _STOP_S = 1.0, 1.0, 8.0
_ENOUGH, _MOST_AT_ONCE = 2_000, 2_000
"""So many records do not wait for the second to end, and go in one statement: each costs a third of one of 500."""
_LARGEST_START = 2**52


@dataclass(frozen=True, slots=True)
class _Batch:
    first_id: int
    records: list[Used]


class Usage(Protocol):
    """What stands around a call needs of the ledger."""

    def admitted(self, tenant_id: int) -> float:
        """Count a call that was let in; return when."""

    def note(self, used: Used) -> None:
        """Note what a call came to."""


class UsageLedger:
    """One record for each call, and one admission before it; both cost a call about a microsecond and never wait.

    A record is in the database a second later, or as soon as it is back. A batch keeps its numbers until PostgreSQL
    has said that it is stored, so that one whose answer was lost is not stored twice. When the process is killed, the
    records of the last second are gone, and the admissions say how many they were.

    `batches`, `written` and `dropped` count what became of records, for those who watch.
    """

    def __init__(self, database: Database, redis: Redis, redis_url: str) -> None:
        self._writer = UsageWriter(database)
        self._admissions = AdmissionCounter(redis, redis_url)
        self.admitted = self._admissions.count
        """Counts a call that was let in; returns when, in seconds since 1970, which its record must carry."""
        self._waiting: deque[Used] = deque()
        self._batch: _Batch | None = None
        self._next_id = secrets.randbelow(_LARGEST_START)
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._away = self._dropping = False
        self.batches = self.written = self.dropped = 0

    def push(self) -> None:
        """Hand what was counted to the kernel now, instead of in the next turn of the event loop.

        Whoever answers a call lets a turn pass first, so that no client saw what was not counted.
        """
        self._admissions.push()

    def note(self, used: Used) -> None:
        """Note what a call came to."""
        waiting = self._waiting
        waiting.append(used)
        if len(waiting) >= _ENOUGH:
            self._crowded()

    @property
    def backlog(self) -> int:
        """How many records are not in the database yet."""
        return len(self._waiting) + (len(self._batch.records) if self._batch else 0)

    def start(self) -> None:
        """Begin to write."""
        self._admissions.start()
        self._writing = asyncio.create_task(self._run(), name="mercato-usage")

    async def stop(self) -> None:
        """Write all that was noted. Gives up after some seconds where the database is away, and says what is lost."""
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing
        await self._admissions.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self.flush()
        if self.backlog:
            log.error("usage records are lost: the database is away", records=self.backlog)

    async def flush(self) -> bool:
        """Write what was noted up to now; return whether all of it is stored."""
        async with self._turn:
            return await self._flush()

    async def _flush(self) -> bool:
        while self._batch is not None or self._waiting:
            if self._batch is None:
                self._batch = self._take()
            try:
                await self._write(self._batch)
            except Exception as error:  # noqa: BLE001  # the edge: whatever stands in the way, the records are kept
                self._lost_touch(error)
                return False
            self.batches += 1
            self.written += len(self._batch.records)
            self._batch, self._away, self._dropping = None, False, False
        return True

    def _crowded(self) -> None:
        if len(self._waiting) > MOST_KEPT:
            self._waiting.popleft()
            if not self._dropping:
                log.error("usage records are dropped, the oldest first: the database is away", kept=MOST_KEPT)
            self._dropping = True
            self.dropped += 1
        self._wake.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await self._wake.wait()
            self._wake.clear()
            if not await self.flush():
                await asyncio.sleep(_RETRY_S)

    def _take(self) -> _Batch:
        if len(self._waiting) <= _MOST_AT_ONCE:
            records = list(self._waiting)
            self._waiting.clear()
        else:
            records = [self._waiting.popleft() for _ in range(_MOST_AT_ONCE)]
        batch = _Batch(self._next_id, records)
        self._next_id += len(records)
        return batch

    async def _write(self, batch: _Batch) -> None:
        """Write a batch; in halves where something in it cannot be stored, so that only that is left out."""
        try:
            await self._writer.write(batch.first_id, batch.records)
        except (DBAPIError, TypeError) as error:
            if not _is_unwritable(error):
                raise
            if len(batch.records) == 1:
                log.error("a usage record cannot be stored", tool=batch.records[0].tool, error=type(error).__name__)
                return
            half = len(batch.records) // 2
            await self._write(_Batch(batch.first_id, batch.records[:half]))
            await self._write(_Batch(batch.first_id + half, batch.records[half:]))

    def _lost_touch(self, error: Exception) -> None:
        """Say it once for each time that the database goes away; with the trace where that is not what happened."""
        if not self._away:
            trace = None if is_outage(error) else error
            log.warning(
                "usage waits for the database", records=self.backlog, error=type(error).__name__, exc_info=trace
            )
        self._away = True


def _is_unwritable(error: Exception) -> bool:
    """Whether it is the fault of a value, and will be again: a zero byte, half a character, a number out of range."""
    state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    return isinstance(error, TypeError) or state.startswith("22")
