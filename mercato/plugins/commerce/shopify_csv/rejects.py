"""Rejects: the file beside an import's input that lists the rows that were not taken, with line and reason.

It is written as the import goes, under another name, and appears whole at the end, in place of an older one. When
nothing was rejected there is none.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mercato import Rejected


class RejectFile:
    """`orders_export.csv` -> `orders_export.csv.rejected.csv`. Left alone when the import does not come to its end."""

    def __init__(self, source: Path) -> None:
        self.path = source.with_name(f"{source.name}.rejected.csv")
        self.count = 0
        self._draft = source.with_name(f".{source.name}.rejected.csv.part")

    def __enter__(self) -> Self:
        self._file = self._draft.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["file", "line", "reason"])
        return self

    def add(self, rejected: Iterable[Rejected]) -> None:
        """List rows."""
        for one in rejected:
            self._writer.writerow([one.file, one.line, one.reason])
            self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None and self.count:
            os.replace(self._draft, self.path)
            return
        self._draft.unlink()
        if error is None:
            with suppress(FileNotFoundError):
                self.path.unlink()
