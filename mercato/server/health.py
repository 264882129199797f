"""Health: real probes of what the server stands on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from mercato.server.jobs.samples import BEHIND_S
from mercato.tenancy.database import Database
from mercato.tools.administration import ServiceName, Status

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime

log = structlog.stdlib.get_logger(__name__)

PROBE_TIMEOUT_S = 3
_SLOW_MS = 500


@dataclass(frozen=True, slots=True)
class Service:
    """What a probe found."""

    status: Status
    latency_ms: float
    message: str

    @property
    def healthy(self) -> bool:
        """Whether it answers, be it slowly."""
        return self.status != "unhealthy"

    def public(self) -> dict[str, Any]:
        """Return what anybody may see."""
        return {"status": self.status, "latency_ms": self.latency_ms}


async def probe(database: Database, redis: Redis, only: ServiceName | None = None) -> dict[ServiceName, Service]:
    """Ask every service once, side by side; or only one."""
    found: dict[ServiceName, Service] = {}

    async def one(name: ServiceName, question: Callable[[], Awaitable[Any]]) -> None:
        found[name] = await _timed(name, question)

    async with anyio.create_task_group() as group:
        if only in {None, "database"}:
            group.start_soon(one, "database", database.ping)
        if only in {None, "cache"}:
            group.start_soon(one, "cache", redis.ping)
    return found


async def _timed(name: str, question: Callable[[], Awaitable[Any]]) -> Service:
    began = time.perf_counter()
    try:
        with anyio.fail_after(PROBE_TIMEOUT_S):
            await question()
    except (SQLAlchemyError, RedisError, OSError, TimeoutError) as error:
        log.warning("probe failed", service=name, error=str(error) or type(error).__name__)
        return Service("unhealthy", _ms_since(began), f"The {name} does not answer.")
    latency_ms = _ms_since(began)
    status: Status = "healthy" if latency_ms < _SLOW_MS else "degraded"
    return Service(status, latency_ms, f"The {name} answers{'' if status == 'healthy' else ', but slowly'}.")


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


async def job_state(runtime: Runtime, *, look: bool) -> dict[str, Any]:
    """Return what anybody may know of jobs: whether this process works on them, and whether the ledger is behind.

    Without `look` the ledger is not asked.
    """
    oldest_due_s = await runtime.job_samples.oldest_due_s() if look else None
    return {
        "worker": "none here" if runtime.worker is None else "runs" if runtime.worker.is_working else "has ended",
        "ledger": "unknown" if oldest_due_s is None else "behind" if oldest_due_s > BEHIND_S else "up to date",
        "oldest_due_s": None if oldest_due_s is None else round(oldest_due_s, 1),
    }
