"""Source: what one kind of export has to know of itself, and the batches in which its file is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.staging import Rejection
from mercato.plugins.commerce.shopify_csv.groups import Group
from mercato.plugins.commerce.shopify_csv.reader import Reader, Row

Item = TypeVar("Item")


class BadRows(ValueError):
    """Rows of a group for which it is not taken."""

    def __init__(self, rejections: Iterable[Rejection]) -> None:
        super().__init__()
        self.rejections = list(rejections)


class Source(Protocol[Item]):
    """One kind of export, for the header of one file."""

    def groups(self, rows: Iterable[Row]) -> Iterator[Group]:
        """Yield the rows that are taken as one."""

    def take(self, group: Group) -> Item:
        """Return what the rows of a group say. Raises `BadRows`."""

    async def stage(self, session: AsyncSession, items: Sequence[Item]) -> None:
        """Copy a batch to the database."""

    async def put(self, session: AsyncSession) -> tuple[dict[str, int], list[Rejection]]:
        """Put what was staged into the tables; return what became of it, by name, and what could not be put."""


@dataclass(slots=True)
class Batch(Generic[Item]):
    """Whole orders, products or customers, of about so many rows, read as far as `line`."""

    items: list[Item] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    rows: int = 0
    line: int = 0


def batches(reader: Reader, source: Source[Item], size: int) -> Iterator[Batch[Item]]:
    """Yield the batches of a file, of `size` rows or a few more; what was rejected is in the one where it was met."""
    batch: Batch[Item] = Batch()
    for group in source.groups(reader.rows()):
        try:
            batch.items.append(source.take(group))
        except BadRows as bad:
            batch.rejections += bad.rejections
        batch.rows += group.size
        if batch.rows >= size:
            batch.line = reader.line
            yield batch
            batch = Batch()
    batch.line = reader.line
    yield batch


class Seen:
    """Remembers what a file has named already: names and ids that may come but once."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._known: set[str] = set()

    def refuse_again(self, name: str | None) -> str | None:
        """Return the reason to refuse a name that came before; None for a new one."""
        if name is None:
            return None
        if name in self._known:
            return f"the {self._what} {name} stands further up in the file already"
        self._known.add(name)
        return None
