"""mercato's ledger: `Job.enqueue` in a transaction of its own or with others, and a worker as everywhere."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.jobs.measure import LOT, SLOTS, Begun, measure, tell
from mercato import Category, Job, JobContext, hookimpl, job
from mercato.plugins.manager import Found
from mercato.server.engines import Engines
from mercato.server.jobs.working import working
from mercato.server.logs import configure_logs
from mercato.server.runtime import Addresses, Runtime, open_runtime
from mercato.server.settings import Settings
from mercato.tenancy.access import Access
from mercato.tenancy.onboarding import onboard_tenant

_CANCEL_THE_REST = (
    "update mercato.jobs set state = 'cancelled', finished_at = now() where state in ('queued', 'retrying')"
)
_OPEN = "select id, state, attempt, worker from mercato.jobs where finished_at is null and name like 'queue.%' limit 9"
begun = Begun()
category = Category("queue", "Nothing but jobs.")


@job("queue.nothing")
async def nothing(ctx: JobContext, number: int) -> None:
    """Tell that it began."""
    begun.note(number)


@hookimpl
def register_categories() -> list[Category]:
    """Return the category `queue`."""
    return [category]


@hookimpl
def register_jobs() -> list[Job[..., Any]]:
    """Return the job."""
    return [nothing]


class Ledger:
    """The ledger, as a tenant sees it."""

    def __init__(self, runtime: Runtime, access: Access) -> None:
        self._runtime = runtime
        self._access = access

    async def put(self, numbers: Sequence[int]) -> None:
        """Ask for these in one transaction."""
        async with self._runtime.contexts.job(self._access, "queue.producer", 0, 1) as ctx:
            for number in numbers:
                await nothing.enqueue(ctx, number=number)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work."""
        async with working(self._runtime, SLOTS, patience_s=5):
            yield


async def crowded(crowd: Ledger, other: Ledger, jobs: int) -> dict[str, float]:
    """Let one tenant ask for many, and another for one while they run; return how long that one waited."""
    for first in range(0, jobs, 10 * LOT):
        await crowd.put(range(first, first + 10 * LOT))
    async with crowd.working():
        await begun.until(LOT)
        asked = time.perf_counter()
        await other.put([jobs])
        while jobs not in begun.at:
            await begun.until(len(begun.at) + 1)
        waited_s = begun.at[jobs] - asked
        return {"waited_s": waited_s, "before": float(len(begun.at))}


async def main() -> None:
    """Measure in the data directory that is given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--crowd", type=int, default=0)
    options = parser.parse_args()
    configure_logs("warning")
    engines = Engines(options.data_dir)
    engines.start()
    engines.wait()
    addresses = Addresses(engines.database_url, engines.redis_url)
    settings = Settings(data_dir=options.data_dir, log_level="warning")
    found = Found("queue", "the benchmark", "0", True, lambda: sys.modules[__name__])
    async with open_runtime(settings, addresses, found=[found], strict=True) as runtime:
        ledger = await _ledger(runtime)
        if options.crowd:
            waited = await crowded(ledger, await _ledger(runtime), options.crowd)
            await runtime.database.pool.fetch(_CANCEL_THE_REST)
            if open_runs := await runtime.database.pool.fetch(_OPEN):
                raise RuntimeError(f"runs of the crowd are left: {open_runs}")
            tell(waited)  # last of all: who hears it ends this process
        else:
            tell(await measure(ledger, begun, options.jobs))
    engines.stop()


async def _ledger(runtime: Runtime) -> Ledger:
    slug = f"t{secrets.token_hex(6)}"
    tenant = await onboard_tenant(
        runtime.database, slug, slug, owner_email=f"a@{slug}.example", categories=[category.name]
    )
    access = await runtime.directory.access(tenant.id)
    assert access is not None
    return Ledger(runtime, access)


if __name__ == "__main__":
    uvloop.run(main())
