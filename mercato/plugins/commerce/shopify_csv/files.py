"""Files: one export into the tables, batch by batch, each of whole orders and one transaction of its own.

However it ends, what was stored is whole; doing it again completes it and changes nothing of what is there already.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from mercato import ImportContext, Rejected
from mercato.plugins.commerce.shopify_csv.reader import Reader, count_lines
from mercato.plugins.commerce.shopify_csv.rejects import RejectFile
from mercato.plugins.commerce.shopify_csv.source import Batch, Source, batches

Item = TypeVar("Item")
Open = Callable[[list[str], str, str], Source[Any]]
"""Makes a source of a file's header, its name, and the tenant's currency."""


async def import_file(
    context: ImportContext, kind: str, path: Path, open_source: Open
) -> tuple[Counter[str], RejectFile]:
    """Import one file; return what became of it, by name, and the list of what was rejected."""
    counts: Counter[str] = Counter()
    lines = await asyncio.to_thread(count_lines, path)
    with path.open("rb") as file:
        reader = Reader(file)
        source = open_source(reader.header, path.name, context.tenant.currency)
        with RejectFile(path) as rejects:
            async with aclosing(_ahead(batches(reader, source))) as coming:
                async for batch in coming:
                    await _store(context, path.name, source, batch, counts, rejects)
                    context.progress(kind, batch.line, max(lines, batch.line))
    return counts, rejects


async def _store(
    context: ImportContext,
    file: str,
    source: Source[Item],
    batch: Batch[Item],
    counts: Counter[str],
    rejects: RejectFile,
) -> None:
    rejections = batch.rejections
    if batch.items:
        async with context.begin() as db:
            done, more = await source.put(db.session, batch.items)
        counts.update(done)
        rejections = rejections + more
    rejects.add(Rejected(file, line, reason) for line, reason in sorted(rejections))


async def _ahead(coming: Iterator[Batch[Item]]) -> AsyncIterator[Batch[Item]]:
    """Yield batches, each read in a thread while the database is busy with the one before."""
    task = asyncio.create_task(asyncio.to_thread(next, coming, None))
    try:
        while (batch := await asyncio.shield(task)) is not None:
            task = asyncio.create_task(asyncio.to_thread(next, coming, None))
            yield batch
    finally:
        await asyncio.wait([task])  # the thread holds the file, and cannot be told to stop
