"""Reading: the bytes of a file -> its rows, each with the line it starts at and what is wrong with it.

A file comes from strangers' hands and spreadsheets. Nothing in it stops the reading: a row that cannot be read is
yielded with its fault, and the reading goes on behind it. Characters that are not seen (controls, zero-width, bidi) are
taken out of whole lines, where that is cheap, so that no cell has any.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

_LINE_MAX = 1 << 20  # bytes at a time, of a file that may have no lines at all
_CONTROLS = bytes({*range(32), 127} - {9, 10, 13})
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class Row(NamedTuple):
    """A row: the line of the file that it starts at, its cells, and why it cannot be taken, if so."""

    line: int
    cells: list[str]
    fault: str | None


class Reader:
    """The rows of a CSV file after its header, lazily: `line` is how far it has come."""

    def __init__(self, file: BinaryIO) -> None:
        self.line = 0
        self._invalid_lines: list[int] = []
        self._csv = csv.reader(self._decoded(file), strict=True)
        self.header = self._read_header()

    def rows(self) -> Iterator[Row]:
        """Yield every row that is not blank."""
        width = len(self.header)
        while True:
            start = self._csv.line_num + 1
            try:
                cells = next(self._csv)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(start, [], f"the row cannot be read: {error}")
                continue
            finally:
                self.line = self._csv.line_num
            if self._invalid_lines:
                yield Row(start, cells, self._invalid())
            elif len(cells) == width:
                cells.append("")  # stands for every column that lacks
                yield Row(start, cells, None)
            elif cells:
                yield Row(start, cells, f"the row has {len(cells)} cells, the header has {width}")

    def _read_header(self) -> list[str]:
        try:
            header = next(self._csv, [])
        except csv.Error:
            return []
        return [] if self._invalid_lines else header

    def _invalid(self) -> str:
        lines = ", ".join(map(str, self._invalid_lines))
        self._invalid_lines.clear()
        return f"line {lines} is not valid UTF-8"

    def _decoded(self, file: BinaryIO) -> Iterator[str]:
        for number, raw in enumerate(iter(partial(file.readline, _LINE_MAX), b""), start=1):
            if raw.isascii():
                yield raw.translate(None, _CONTROLS).decode("ascii")
                continue
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                self._invalid_lines.append(number)
                text = raw.decode(errors="replace")
            yield _UNSEEN.sub("", text)


def count_lines(path: Path) -> int:
    """Return how many lines a file has, to tell how far the reading is."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))
