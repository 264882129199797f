"""One run: set up, let jobs run and workers die, and look at what is left."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from benchmarks.chaos.deployment import Shop, engines_in, environment, make_shops
from benchmarks.chaos.verdict import Check, Told
from benchmarks.chaos_jobs.checks import crew_checks, effect_checks, ledger_checks
from benchmarks.chaos_jobs.crew import Crew
from benchmarks.chaos_jobs.outages import AWAY, Outages
from benchmarks.chaos_jobs.producer import Producer
from benchmarks.chaos_jobs.wake import Wake
from benchmarks.deployment import MERCATO
from mercato.server.engines import Engines
from mercato.server.runtime import Addresses, Runtime, open_runtime
from mercato.server.settings import Settings

KILL_EVERY_S = 2
_STUCK_S = 60
_PRODUCERS_EACH = 2
_LEFT = "select count(*) from mercato.jobs where state in ('queued', 'retrying', 'running') and name like 'chaos.%'"


class Run:
    """One run, in its own folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._data_dir = folder / "data"
        self._site = folder / "site"
        self._log = options.log or folder / "workers.log"
        self._seconds = 0.0

    async def run(self) -> Told:
        """Let there be chaos, and tell of it."""
        with engines_in(self._data_dir, durable=True) as engines:
            shops = await make_shops(self._data_dir, engines)
            command = [*MERCATO, "worker", "--slots", str(self._options.slots), "--json"]
            crew = Crew(self._options.workers, command, environment(self._data_dir, self._site, 0), self._log)
            try:
                async with self._opened(engines) as runtime:
                    return await self._live(runtime, shops, crew, Outages(self._data_dir, engines))
            finally:
                await crew.stop()

    @asynccontextmanager
    async def _opened(self, engines: Engines) -> AsyncIterator[Runtime]:
        settings = Settings(data_dir=self._data_dir, log_level="error")
        addresses = Addresses(engines.database_url, engines.redis_url)
        async with open_runtime(settings, addresses, strict=True) as runtime:
            yield runtime

    async def _live(self, runtime: Runtime, shops: Sequence[Shop], crew: Crew, outages: Outages) -> Told:
        producers, wake = await self._producers(runtime, shops), Wake(runtime.database.pool)
        await crew.start()
        began, chance = time.monotonic(), random.Random(self._options.seed)
        async with asyncio.TaskGroup() as beside:
            killing = beside.create_task(crew.kill_every(KILL_EVERY_S, chance, wake.bury))
            watching = beside.create_task(wake.watch())
            await self._produce(producers, outages)
            await self._drained(runtime, wake)
            killing.cancel()
            watching.cancel()
        self._seconds = time.monotonic() - began
        checks = [
            *await effect_checks(runtime.database, shops, producers),
            *await ledger_checks(runtime.database.pool, sum(len(one.expected) for one in producers)),
            *crew_checks(crew, wake, outages),
        ]
        return self._told(checks, crew, wake, sum(producer.repeated for producer in producers))

    async def _producers(self, runtime: Runtime, shops: Sequence[Shop]) -> list[Producer]:
        producers: list[Producer] = []
        share = self._options.jobs // (len(shops) * _PRODUCERS_EACH)
        for shop in shops:
            access = await runtime.directory.access(shop.id)
            assert access is not None
            for _ in range(_PRODUCERS_EACH):
                first = len(producers) * share
                producers.append(Producer(runtime, access, range(first, first + share)))
        return producers

    async def _produce(self, producers: Sequence[Producer], outages: Outages) -> None:
        async with asyncio.TaskGroup() as tasks:
            for producer in producers:
                tasks.create_task(producer.produce(self._options.seconds))
            for make in outages.all:
                await asyncio.sleep(self._options.seconds / (len(outages.all) + 1))
                await make()

    async def _drained(self, runtime: Runtime, wake: Wake) -> None:
        """Wait until nothing is left, or nothing goes on any more: what is left then counts as stuck."""
        least, changed_at = None, time.monotonic()
        while time.monotonic() - changed_at < _STUCK_S:
            await asyncio.sleep(0.5)
            try:
                left = (await runtime.database.pool.fetch(_LEFT))[0][0] + len(wake.waiting)
            except AWAY:
                continue
            if not left:
                return
            if least is None or left < least:
                least, changed_at = left, time.monotonic()

    def _told(self, checks: Sequence[Check], crew: Crew, wake: Wake, repeated: int) -> Told:
        options = self._options
        described = (
            f"jobs {options.jobs:,}, seconds {options.seconds}, workers {options.workers}, slots {options.slots}, "
            f"seed {options.seed}"
        )
        measured = {
            "seconds from the first run to the last": f"{self._seconds:.0f}",
            "seconds that a worker took to start": _spread(crew.starts_s),
            "seconds until a lost run was taken back": _spread(list(wake.taken_back_s.values())),
            "seconds until a lost run had begun again": _spread(wake.restarts_s),
            "lots that were asked for again, since their commit failed": f"{repeated}",
            "starts of workers that failed while an engine was away": f"{crew.repeated_starts}",
        }
        return Told("Chaos of jobs", described, checks, measured)


def _spread(seconds: Sequence[float]) -> str:
    return f"median {median(seconds):.1f}, most {max(seconds):.1f}" if seconds else "none"
