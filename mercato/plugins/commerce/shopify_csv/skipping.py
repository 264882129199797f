"""Skipping: where a record ends that is too long to be kept, by its quotes alone and a piece at a time.

It follows the rules that `csv` has when it is strict. What `csv` would not read is `BROKEN`: where such a record ends
cannot be known.
"""

from __future__ import annotations

import re
from enum import Enum, auto

_PLAIN = re.compile(r'[^,\r\n]*+(?:,[^,\r\n"][^,\r\n]*+|,(?=,))*+')  # this cell and those behind it that have no quotes
_QUOTED = re.compile(r'[^"]*+(?:""[^"]*+)*+')


class State(Enum):
    """What comes next in a record."""

    CELL = auto()
    PLAIN = auto()
    QUOTED = auto()
    QUOTE = auto()  # a quote was in a quoted cell: its end, or the first of two
    RETURN = auto()
    END = auto()
    BROKEN = auto()


def follow(piece: str, state: State) -> State:
    """Return the state behind a piece of a record, which may be cut anywhere but goes on behind no end of a line."""
    at = 0
    while at < len(piece) and state not in (State.END, State.BROKEN):
        state, at = _step(piece, state, at)
    return state


def _step(piece: str, state: State, at: int) -> tuple[State, int]:
    if state is State.PLAIN or (state is State.CELL and piece[at] not in '",\r\n'):
        rest = _PLAIN.match(piece, at)
        at = rest.end() if rest else at
        return (State.PLAIN, at) if at == len(piece) else (_behind(piece[at]), at + 1)
    if state is State.QUOTED:
        inside = _QUOTED.match(piece, at)
        at = inside.end() if inside else at
        return (State.QUOTED, at) if at == len(piece) else (State.QUOTE, at + 1)
    if piece[at] == '"' and state is not State.RETURN:
        return State.QUOTED, at + 1
    if state is State.RETURN and piece[at] not in "\r\n":
        return State.BROKEN, at
    return _behind(piece[at]), at + 1


def _behind(character: str) -> State:
    return {",": State.CELL, "\r": State.RETURN, "\n": State.END}.get(character, State.BROKEN)
