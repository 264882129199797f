"""Groups: the rows of a file that stand together and make one order, product or customer, and are taken or not as one.

Shopify writes the rows of an order one below the other. A name that comes back further down is not the same thing
continued: taking it would overwrite one half with the other. It is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mercato.plugins.commerce.shopify_csv.reader import Row

ROWS_MAX = 10_000


@dataclass(slots=True)
class Group:
    """Rows that stand together, from `line` on. With faults, `(line, reason)`, they are not taken."""

    key: str
    line: int
    rows: list[Row] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    size: int = 0

    def add(self, row: Row) -> None:
        """Take a row in."""
        self.size += 1
        if row.fault:
            self.faults.append((row.line, row.fault))
        elif self.size <= ROWS_MAX:
            self.rows.append(row)
        elif self.size == ROWS_MAX + 1:
            self.faults.append((row.line, f"there are more than {ROWS_MAX:,} rows"))


def grouped(rows: Iterable[Row], key_of: Callable[[list[str]], str]) -> Iterator[Group]:
    """Yield the groups of rows with the same key.

    A row whose key cannot be told is a fault of the group above it: it may belong there, and an order without one of
    its lines is worse than none.
    """
    group: Group | None = None
    for row in rows:
        key = key_of(row.cells) if row.cells else ""
        if group is not None and key in ("", group.key):
            group.add(row if key or row.fault else row._replace(fault="the row does not say whose it is"))
            continue
        if group is not None:
            yield group
        group = Group(key, row.line)
        group.add(row if key or row.fault else row._replace(fault="the row does not say whose it is"))
    if group is not None:
        yield group


def single(rows: Iterable[Row]) -> Iterator[Group]:
    """Yield each row as a group of its own."""
    for row in rows:
        group = Group("", row.line)
        group.add(row)
        yield group
