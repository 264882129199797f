"""Lines: the bytes of a file -> the lines that `csv` is given, without the characters that are not seen.

Those (controls, zero-width, bidi) are taken out of whole lines, where that is cheap, so that no cell has any. Of a
record that is too long, `csv` is given the beginning; the rest is read to its end and not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mercato.plugins.commerce.shopify_csv.skipping import State, follow

RECORD_MAX_BYTES = 1 << 20

_CONTROLS = bytes({*range(32), 127} - {9, 10, 13})
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class Lines:
    """The lines of a file; `csv` asks for the next one of a record only while a quote is open.

    `number` is how many were read. Of the record at hand: which lines are no UTF-8, whether it is too long, whether its
    quotes are broken, and whether the file ended in it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.number = 0
        self.invalid: list[int] = []
        self.is_too_long = self.is_broken = self.is_ended = False
        self._file = file
        self._record_bytes = 0

    def begin_record(self) -> None:
        """Forget the record before."""
        self._record_bytes = 0
        self.is_too_long = False
        if self.invalid:
            self.invalid.clear()

    def __iter__(self) -> Iterator[str]:
        for raw in iter(partial(self._file.readline, RECORD_MAX_BYTES + 1), b""):
            self._record_bytes += len(raw)
            if self._record_bytes > RECORD_MAX_BYTES:
                yield self._cut(raw)
            else:
                self.number += 1
                yield self._decoded(raw)
        self.is_ended = True

    def _decoded(self, raw: bytes) -> str:
        if raw.isascii():
            return raw.translate(None, _CONTROLS).decode("ascii")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self.invalid.append(self.number)
            text = raw.decode(errors="replace")
        return _UNSEEN.sub("", text)

    def _cut(self, raw: bytes) -> str:
        """Return what ends the record for `csv`, and read the file to where it ends."""
        is_first = self._record_bytes == len(raw)
        text = _UNSEEN.sub("", raw.decode(errors="replace"))
        state = follow(text, State.CELL if is_first else State.QUOTED)
        kept = (text if is_first else "") + ('"' if state is State.QUOTED or not is_first else "")
        self.is_too_long = True
        self._skip(raw, state)
        return kept

    def _skip(self, raw: bytes, state: State) -> None:
        while raw and state not in (State.END, State.BROKEN):
            self.number += raw.endswith(b"\n")
            raw = self._file.readline(RECORD_MAX_BYTES)
            state = follow(_UNSEEN.sub("", raw.decode(errors="replace")), state)
        self.number += bool(raw)
        self.is_broken = state is State.BROKEN
        self.is_ended = state is State.QUOTED


def count_lines(path: Path) -> int:
    """Return how many lines a file has, to tell how far the reading is."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))
