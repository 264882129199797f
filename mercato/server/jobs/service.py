"""The service: everything in one process that works in the background, put together and taken down in order."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterable
from typing import Any

from mercato.plugins.jobs import Job
from mercato.server.jobs.opening import Opening
from mercato.server.jobs.provider import Provider
from mercato.server.jobs.relay import Relay
from mercato.server.jobs.runner import Runner, Told
from mercato.server.jobs.running import Running
from mercato.server.jobs.ticker import Ticker
from mercato.server.metrics import Metrics
from mercato.tenancy.system_pool import SystemPool

STOP_S = 5.0
"""How long jobs that were cancelled may take for their `finally`."""


def worker_name() -> str:
    """Return a name for this process that no other has, and that an operator can tell where it is from."""
    return f"{socket.gethostname()[:40]}:{secrets.token_hex(4)}"


class JobService:
    """Runs the jobs of all plugins: claims them, renews their leases, looks at the clock."""

    def __init__(
        self,
        pool: SystemPool,
        provider: Provider,
        jobs: Iterable[Job[..., Any]],
        opening: Opening,
        worker: str,
        metrics: Metrics | None = None,
        told: Told | None = None,
    ) -> None:
        every = {job.name: job for job in jobs}
        self.worker = worker
        self.metrics = metrics or Metrics()
        self.provider = provider
        self.running = Running(pool, worker)
        self.runner = Runner(self.running, every, opening, self.metrics, told)
        limits, handle = self.runner.limits, self.runner.handle
        self.relay = Relay(pool, provider, list(every), limits, handle, self.running.look_now)
        self.ticker = Ticker(pool, list(every.values()))

    @property
    def is_working(self) -> bool:
        """Whether it looks for work."""
        return self.relay.is_ringing

    async def start(self) -> None:
        """Begin to work."""
        await self.provider.start(self.runner.handle, self.relay.wake)
        self.running.start()
        self.relay.start()
        self.ticker.start()

    async def stop(self, patience_s: float = 0) -> None:
        """Begin nothing more, wait so long for what runs, and give back what is left, for another worker."""
        await self.ticker.stop()
        await self.relay.stop()
        await self.provider.drain(patience_s)
        left = [run for run in self.running.runs.values() if run.task is not None]
        for run in left:
            run.end("stopped")
        if left:
            await asyncio.wait({run.task for run in left if run.task is not None}, timeout=STOP_S)
        await self.running.stop()
        await self.provider.stop()
