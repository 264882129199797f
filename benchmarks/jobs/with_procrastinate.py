"""procrastinate on psycopg, with as many jobs at once as mercato. Runs in the peers' environment."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import procrastinate
import uvloop

from benchmarks.jobs.measure import SLOTS, Begun, measure, tell

begun = Begun()


class Procrastinate:
    """procrastinate's queue."""

    def __init__(self, app: procrastinate.App, connector: procrastinate.PsycopgConnector) -> None:
        self._app = app
        self._connector = connector
        self._nothing = app.task(name="nothing")(_nothing)

    async def put(self, numbers: Sequence[int]) -> None:
        """Ask for these in one transaction, each by a statement of its own, as one who has other things to store."""
        async with self._connector.pool.connection() as connection, connection.transaction():
            for number in numbers:
                await self._nothing.configure(connection=connection).defer_async(number=number)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work."""
        task = asyncio.create_task(self._app.run_worker_async(concurrency=SLOTS, install_signal_handlers=False))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _nothing(number: int) -> None:
    """Tell that it began."""
    begun.note(number)


async def main() -> None:
    """Measure in the database that is given, which is made ready where it is new."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    options = parser.parse_args()
    connector = procrastinate.PsycopgConnector(conninfo=options.dsn)
    app = procrastinate.App(connector=connector)
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        tell(await measure(Procrastinate(app, connector), begun, options.jobs))


if __name__ == "__main__":
    uvloop.run(main())
