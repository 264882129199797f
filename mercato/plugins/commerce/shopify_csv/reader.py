"""Reading: the bytes of a file -> its rows, each with the line it starts at and what is wrong with it.

A file comes from strangers' hands and spreadsheets. A row that cannot be taken is yielded with its fault, and the
reading goes on behind it. It stops where the quotes do not say any more what is a row and what is text in a cell: what
stands in a cell is never taken for a row.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from mercato.plugins.commerce.shopify_csv.columns import WrongFile
from mercato.plugins.commerce.shopify_csv.lines import RECORD_MAX_BYTES, Lines

_TOO_LONG = f"the row is longer than {RECORD_MAX_BYTES:,} bytes"
_NOT_CLOSED = "a quote in this row is not closed to the end of the file"
_MISPLACED = "a quote or a line's end stands where none may be in this row"
_SAVE_AS = "It must be CSV in UTF-8, as the shop exports it; a spreadsheet calls that “CSV UTF-8”."


class Row(NamedTuple):
    """A row: the line of the file that it starts at, its cells, and why it cannot be taken, if so."""

    line: int
    cells: list[str]
    fault: str | None


class Reader:
    """The rows of a CSV file after its header, lazily: `line` is how far it has come.

    Where it cannot go on, `stopped` says why. Raises `WrongFile` for what has no header that could be read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.line = 0
        self.stopped: str | None = None
        self._name = name
        _refuse_other_encodings(file, name)
        # It is the whole process's. Raising it harms nobody: it keeps memory, of which a record has its own bound here;
        # an error from it, within a record, would leave open where that ends.
        csv.field_size_limit(max(csv.field_size_limit(), RECORD_MAX_BYTES + 1))
        self._lines = Lines(file)
        self._csv = csv.reader(self._lines, strict=True)
        self.header = self._read_header()

    def rows(self) -> Iterator[Row]:
        """Yield every row that is not blank."""
        width = len(self.header)
        lines = self._lines
        while self.stopped is None:
            start = lines.number + 1
            lines.begin_record()
            try:
                cells = next(self._csv)
            except StopIteration:
                return
            except csv.Error:
                cells = []
                self._stop(start)
            if lines.is_too_long and (lines.is_broken or lines.is_ended):
                self._stop(start)
            self.line = lines.number
            if self.stopped or lines.is_too_long or lines.invalid:
                yield Row(start, cells, self._fault())
            elif len(cells) == width:
                cells.append("")  # stands for every column that lacks
                yield Row(start, cells, None)
            elif cells:
                yield Row(start, cells, f"the row has {len(cells)} cells, the header has {width}")

    def _read_header(self) -> list[str]:
        try:
            header = next(self._csv, [])
        except csv.Error:
            raise WrongFile(f"The header of {self._name} cannot be read: {self._misread()}.") from None
        if self._lines.is_too_long:
            raise WrongFile(f"The header of {self._name} is longer than {RECORD_MAX_BYTES:,} bytes.")
        if self._lines.invalid:
            raise WrongFile(f"The header of {self._name} is not valid UTF-8. {_SAVE_AS}")
        return header

    def _stop(self, start: int) -> None:
        self.stopped = (
            f"{self._name} could not be read from line {start:,} on: {self._misread()}. What stands above it was"
            " taken, nothing below it. Mend the file there and import it again."
        )

    def _fault(self) -> str:
        if self.stopped:
            return f"{self._misread()}; nothing from here on was taken"
        if self._lines.is_too_long:
            return _TOO_LONG
        return f"line {', '.join(map(str, self._lines.invalid))} is not valid UTF-8"

    def _misread(self) -> str:
        return _NOT_CLOSED if self._lines.is_ended else _MISPLACED


def _refuse_other_encodings(file: BinaryIO, name: str) -> None:
    """Raise `WrongFile` for UTF-16, in which spreadsheets save "Unicode text", and for what is no text at all."""
    start = file.read(1024)
    file.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise WrongFile(f"{name} is UTF-16. {_SAVE_AS}")
    if b"\0" in start.partition(b"\n")[0]:
        raise WrongFile(f"{name} is no text in UTF-8. {_SAVE_AS}")
