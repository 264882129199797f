"""A worker in a process of its own, with the jobs of these tests; `slow` ones give whoever kills it some time."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mercato.server.jobs.working import working
from mercato.server.runtime import Addresses, open_runtime
from mercato.server.settings import Settings
from tests.server.jobs import probe


async def main() -> None:
    """Work until the end of the input."""
    settings = Settings(data_dir=Path(os.environ["WORKER_DATA"]))
    addresses = Addresses(os.environ["WORKER_DATABASE"], os.environ["WORKER_REDIS"])
    async with (
        open_runtime(settings, addresses, found=[probe.FOUND], strict=True) as runtime,
        working(runtime, 5, patience_s=1),
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
