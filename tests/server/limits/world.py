"""A clock that tests move, and the rule that every count must keep."""

from __future__ import annotations

import secrets
from bisect import bisect_right

from mercato.server.limits import Window

WINDOW_S, SLOT_S = 60, 1
BEGAN = 1_800_000_000.25


class Clock:
    """A time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now


def window(most: int, name: str = "tenant", key: str | None = None) -> Window:
    """A window that no other test counts in."""
    return Window(name, key or secrets.token_hex(8), most)


def within(passed: list[float], now: float, seconds: float) -> int:
    """How many passed in the seconds up to now; `passed` is in order."""
    return len(passed) - bisect_right(passed, now - seconds)


def assert_never_more(passed: list[float], most: int) -> None:
    """No 60 seconds hold more: each that holds most ends when one passes."""
    assert all(within(passed[: number + 1], now, WINDOW_S) <= most for number, now in enumerate(passed))
