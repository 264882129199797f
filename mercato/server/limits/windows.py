"""Windows: which limits a call must keep, and what is said of one that is reached."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_S = 60
SLOTS = 60
"""A window is counted in so many slots: what left it a slot ago at most still counts."""

Clock = Callable[[], float]
"""Seconds that only grow."""


@dataclass(frozen=True, slots=True)
class Window:
    """One limit as it applies to one caller. The windows of one call must differ in `name` or `key`.

    `place`, where it is counted, is made once: build the windows of a caller once and keep them.
    """

    name: str
    key: str
    most: int
    place: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", f"{self.name}:{self.key}")


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit that was reached. After `retry_after_s` the same call is let through, unless others come before it."""

    limit: str
    whose: str
    most: int
    window_s: int
    retry_after_s: int


def reached(window: Window, window_s: float, wait_s: float) -> Reached:
    """Return what is said of a window that is full for so long."""
    return Reached(window.name, window.key, window.most, math.ceil(window_s), max(1, math.ceil(wait_s)))
