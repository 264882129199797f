"""A worker of the tests: for jobs it is a process, but it does what it is asked to and nothing by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mercato.server.jobs.inline import InlineProvider
from mercato.server.jobs.provider import Provider
from mercato.server.jobs.service import JobService


class Worker:
    """A service over a provider that runs nothing before it is told to."""

    def __init__(self, make: Callable[[Provider], JobService]) -> None:
        self.provider = InlineProvider()
        self.service = make(self.provider)

    async def run_all(self) -> int:
        """Run what is due, and what follows from it; return how many runs those were."""
        total = 0
        while rung := await self.service.relay.ring():
            total += rung
            await self.provider.run()
        return total


@asynccontextmanager
async def open_worker(make: Callable[[Provider], JobService]) -> AsyncIterator[Worker]:
    """Open a worker over the service that `make` makes for a provider."""
    worker = Worker(make)
    await worker.provider.start(worker.service.runner.handle, lambda: None)
    yield worker
    await worker.service.running.stop()
