"""Columns: which cell of a row is what, by the header's names.

A field is a column's name in lower case with underscores: `Lineitem compare at price` is `lineitem_compare_at_price`.
Columns may stand in any order, those we have no use for are passed over, and those that lack are empty cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

from mercato import ImportRefused

Cells = TypeVar("Cells", bound=NamedTuple)

_NOT_WORD = re.compile(r"[^a-z0-9]+")


class WrongFile(ImportRefused):
    """The file is not the export it was given as; the text is a sentence for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns(Generic[Cells]):
    """What is read of each row of one kind of export: `cells` is a named tuple whose fields are columns.

    `older` gives the names that columns had, or have in other exports; of `needed`, a file must have every one.
    """

    kind: str
    cells: type[Cells]
    needed: tuple[str, ...] = ()
    older: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def found_in(self, header: Sequence[str], file: str) -> Callable[[list[str]], Cells]:
        """Return what makes the cells of a row. Raises `WrongFile`, which names what the header lacks.

        Rows must have one empty cell more than the header, which stands for all columns that lack.
        """
        places = _places(header)
        lacking = [self._names(name) for name in self.needed if self._place(name, places) is None]
        if lacking:
            raise WrongFile(f"{file} is not Shopify's export of {self.kind}: its header lacks {', '.join(lacking)}.")
        found = (self._place(name, places) for name in self.cells._fields)
        pick = itemgetter(*(len(header) if place is None else place for place in found))
        make = self.cells._make
        return lambda row: make(pick(row))

    def place(self, name: str, header: Sequence[str]) -> int:
        """Return where one of the needed columns stands."""
        place = self._place(name, _places(header))
        if place is None:
            raise KeyError(name)
        return place

    def _place(self, name: str, places: Mapping[str, int]) -> int | None:
        known = (_field(name), *map(_field, self.older.get(_field(name), ())))
        return next((places[one] for one in known if one in places), None)

    def _names(self, name: str) -> str:
        return " or ".join([name, *self.older.get(_field(name), ())])


def _places(header: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        places.setdefault(_field(name), place)  # the first of two columns with one name
    return places


def _field(name: str) -> str:
    return _NOT_WORD.sub("_", name.lower()).strip("_")
