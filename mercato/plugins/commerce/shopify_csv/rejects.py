"""Rejects: the file beside an import's input that lists the rows that were not taken, with line and reason.

It is written as the import goes, under a name that nobody can put a link at beforehand, and appears whole at the end,
in place of an older one. It is for its owner only: reasons quote what strangers wrote. When nothing was rejected there
is none.
"""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from mercato import Rejected

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class RejectFile:
    """`orders_export.csv` -> `orders_export.csv.rejected.csv`; stays as it was when the import is interrupted."""

    def __init__(self, source: Path) -> None:
        self.path = source.with_name(f"{source.name}.rejected.csv")
        self.count = 0
        self._draft = source.with_name(f".{secrets.token_hex(16)}.rejected.csv.part")
        self._file: TextIO | None = None  # none until it is needed: a folder that is read-only has nothing rejected

    def __enter__(self) -> Self:
        return self

    def add(self, rejected: Iterable[Rejected]) -> None:
        """List rows."""
        for one in rejected:
            if self._file is None:
                self._file = os.fdopen(os.open(self._draft, _NEW, 0o600), "w", newline="", encoding="utf-8")
                csv.writer(self._file).writerow(["file", "line", "reason"])
            csv.writer(self._file).writerow([one.file, one.line, one.reason])
            self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if error is None and self.count:
            os.replace(self._draft, self.path)
        elif error is None:
            self.path.unlink(missing_ok=True)
        self._draft.unlink(missing_ok=True)
