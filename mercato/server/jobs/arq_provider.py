"""The provider of production: arq, each process with a queue of its own in Redis.

The ledger chooses which process gets what, so no queue is shared: what a process that died was rung for lies in a
queue that nobody reads, and is rung again elsewhere. arq is told to keep no results, to retry nothing and to speak
JSON; every ring has a fresh id, so nothing of an earlier attempt is in its way.

What is arq's own and not documented is used in this file only, and pinned by a test: how its loop waits for the next
look at the queue, how it looks, what it is at, and how it counts its slots.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import orjson
import structlog
from arq.connections import ArqRedis
from arq.constants import default_queue_name, job_key_prefix
from arq.jobs import serialize_job
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from mercato.server.jobs.provider import Handle
from mercato.tenancy.ledger_choosing import RUNG_S

log = structlog.stdlib.get_logger(__name__)

FUNCTION = "run"
_BUSY_S, _IDLE_S, _AWAY_S = 0.02, 1.0, 0.5
_ANSWER_S = 3
_NEVER_S = 7 * 86_400
"""arq's own time-out. Jobs have theirs."""
_EXPIRES_MS = 3_600_000


class ArqProvider:
    """Runs at most `slots` rows at once."""

    def __init__(self, redis_url: str, worker: str, slots: int) -> None:
        pool = ConnectionPool.from_url(redis_url, socket_connect_timeout=5, max_connections=slots + 8)
        self._redis = ArqRedis(pool_or_conn=pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads)
        self._queue = f"{default_queue_name}:mercato:{worker}"
        self._slots = slots
        self._rung: dict[int, float] = {}
        self._handle: Handle | None = None
        self._has_room: Callable[[], None] = lambda: None
        self._awake: _Awake | None = None
        self._task: asyncio.Task[None] | None = None
        self._running = 0
        self._idle = asyncio.Event()

    def room(self) -> int:
        """Return twice its free slots, less what it was rung for and has not begun."""
        free = self._slots - self._running
        if free < 1 or self._awake is None or not self._awake.allow_pick_jobs:
            return 0
        lost_before = time.monotonic() - RUNG_S
        for job_id in [job_id for job_id, at in self._rung.items() if at < lost_before]:
            del self._rung[job_id]
        return 2 * free - len(self._rung)

    async def ring(self, ids: Sequence[int]) -> None:
        """Put ids into the queue, in one round trip. Raises `OSError` where Redis does not take them."""
        now_ms, at = int(time.time() * 1000), time.monotonic()
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                arq_id = f"{job_id}:{secrets.token_hex(6)}"
                told = serialize_job(FUNCTION, (job_id,), {}, None, now_ms, serializer=orjson.dumps)
                pipe.psetex(job_key_prefix + arq_id, _EXPIRES_MS, told)
                pipe.zadd(self._queue, {arq_id: now_ms})
            pipe.pexpire(self._queue, _EXPIRES_MS)
            try:
                async with asyncio.timeout(_ANSWER_S):  # one that hangs is away too
                    await pipe.execute()
            except RedisError as error:
                raise ConnectionError(str(error)) from error
        self._rung.update(dict.fromkeys(ids, at))
        if self._awake is not None:
            self._awake.due.set()

    async def start(self, handle: Handle, has_room: Callable[[], None]) -> None:
        """Begin to run."""
        self._handle, self._has_room = handle, has_room
        self._awake = _Awake(
            [func(self._run, name=FUNCTION, timeout=_NEVER_S, keep_result=0, max_tries=1)],
            queue_name=self._queue,
            redis_pool=self._redis,
            handle_signals=False,
            max_jobs=self._slots,
            job_timeout=_NEVER_S,
            keep_result=0,
            max_tries=1,
            retry_jobs=False,
            poll_delay=_IDLE_S,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
            log_results=False,
        )
        self._awake.due = asyncio.Event()
        self._task = asyncio.create_task(self._awake.main(), name="mercato-arq")

    async def _run(self, ctx: Any, job_id: int) -> None:
        self._rung.pop(job_id, None)
        if self._awake is None or not self._awake.allow_pick_jobs:
            return  # arq had it in hand when it began to drain: it is rung elsewhere
        self._running += 1
        self._idle.clear()
        try:
            if self._handle is not None:
                await self._handle(job_id)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
            self._has_room()

    async def drain(self, patience_s: float) -> None:
        """Begin nothing more, and wait so long for what runs."""
        if self._awake is None:
            return
        self._awake.allow_pick_jobs = False
        if self._running:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._idle.wait()

    async def stop(self) -> None:
        """Cancel what still runs, and end."""
        if self._task is not None and self._awake is not None:
            self._task.cancel()
            running = list(self._awake.tasks.values())
            for task in running:
                task.cancel()
            await asyncio.gather(self._task, *running, return_exceptions=True)
            with suppress(RedisError, OSError):
                async with asyncio.timeout(_ANSWER_S):
                    await self._redis.delete(self._queue)
        await self._redis.aclose(close_connection_pool=True)


class _Awake(Worker):
    """arq's worker, which looks at its queue when it is told to instead of twice a second.

    While something runs or waits it looks fifty times a second, so that nothing hangs on a word that was not said; a
    Redis that is away does not end it.
    """

    due: asyncio.Event

    async def main(self) -> None:
        """Look, and wait."""
        while True:
            self.due.clear()
            wait_s = _BUSY_S if self.tasks else _IDLE_S
            try:
                await self._poll_iteration()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("Redis is away: jobs wait", error=type(error).__name__)
                wait_s = _AWAY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self.due.wait()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Begin jobs. Where Redis fails meanwhile, arq keeps the slot that it took: it is given back here."""
        for job_id in job_ids:
            try:
                await super().start_jobs([job_id])
            except (RedisError, OSError):
                if job_id.decode() not in self.tasks:
                    self._release_sem_dec_counter_on_complete()
                raise
