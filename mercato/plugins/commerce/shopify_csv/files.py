"""Files: one export into the tables, batch by batch, each of whole orders and one transaction of its own.

However it ends, what was stored is whole; doing it again completes it and changes nothing of what is there already.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mercato import ImportContext, Rejected
from mercato.plugins.commerce.bulk.staging import Rejection
from mercato.plugins.commerce.shopify_csv.lines import count_lines
from mercato.plugins.commerce.shopify_csv.reader import Reader
from mercato.plugins.commerce.shopify_csv.rejects import RejectFile
from mercato.plugins.commerce.shopify_csv.source import Batch, Source, batches

BATCH_ROWS = 20_000

Open = Callable[[list[str], str, str], Source[Any]]
"""Makes a source of a file's header, its name, and the tenant's currency."""


class Done(NamedTuple):
    """What became of a file, by name, the list of what was rejected, and why the reading stopped before its end."""

    counts: Counter[str]
    rejects: RejectFile
    stopped: str | None


async def import_file(context: ImportContext, kind: str, path: Path, open_source: Open) -> Done:
    """Import one file."""
    counts: Counter[str] = Counter()
    lines = await asyncio.to_thread(count_lines, path)
    with path.open("rb") as file:
        reader = Reader(file, path.name)
        source = open_source(reader.header, path.name, context.tenant.currency)
        with RejectFile(path) as rejects:
            ahead = _Ahead(batches(reader, source, BATCH_ROWS))
            try:
                while batch := await ahead.take():
                    done, rejections = await _store(context, source, batch, ahead)
                    counts.update(done)
                    rejects.add(Rejected(path.name, *one) for one in sorted(batch.rejections + rejections))
                    context.progress(kind, batch.line, max(lines, batch.line))
            finally:
                await ahead.end()
    return Done(counts, rejects, reader.stopped)


class _Ahead:
    """Reads the next batch in a thread while the database is busy with the one before."""

    def __init__(self, coming: Iterator[Batch[Any]]) -> None:
        self._coming = coming
        self._reading: asyncio.Task[Batch[Any] | None] | None = None

    def start(self) -> asyncio.Task[Batch[Any] | None]:
        """Begin to read the next one."""
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(next, self._coming, None))
        return self._reading

    async def take(self) -> Batch[Any] | None:
        """Return the next one, or None at the end."""
        batch = await asyncio.shield(self.start())
        self._reading = None
        return batch

    async def end(self) -> None:
        """Wait for the thread: it holds the file, and cannot be told to stop."""
        if self._reading is not None:
            await asyncio.wait([self._reading])


async def _store(
    context: ImportContext, source: Source[Any], batch: Batch[Any], ahead: _Ahead
) -> tuple[dict[str, int], list[Rejection]]:
    if not batch.items:
        return {}, []
    effect: Counter[str] = Counter()
    async with context.begin(effect) as db:
        await source.stage(db.session, batch.items)
        ahead.start()  # not before: the copying needs the interpreter too, and the database would wait for it
        done, rejections = await source.put(db.session)
        effect.update({name: count for name, count in done.items() if not name.endswith("_unchanged")})
    return done, rejections
