"""Windows in this process: the same rule as in Redis, for the time that Redis is away."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from mercato.server.limits.windows import SLOTS, Clock, Reached, Window, reached

_MOST_KEPT = 10_000


class LocalWindows:
    """Counts by itself. Who has not called for longest is forgotten where there are too many."""

    def __init__(self, window_s: float, clock: Clock) -> None:
        self._window_s = window_s
        self._slot_s = window_s / SLOTS
        self._clock = clock
        self._taken: OrderedDict[str, _Taken] = OrderedDict()

    def take(self, windows: Sequence[Window]) -> Reached | None:
        """Take one of each, or nothing."""
        now = self._clock()
        slot = int(now / self._slot_s)
        counts = [(window, self._of(window, slot)) for window in windows]
        full = [(taken.leaves_at(window.most), window) for window, taken in counts if taken.total >= window.most]
        if full:
            leaves_at, window = max(full, key=lambda one: one[0])
            return reached(window, self._window_s, leaves_at * self._slot_s - now)
        for _, taken in counts:
            taken.add(slot)
        return None

    def _of(self, window: Window, slot: int) -> _Taken:
        taken = self._taken.pop(window.place, None) or _Taken()
        taken.advance(slot)
        self._taken[window.place] = taken
        if len(self._taken) > _MOST_KEPT:
            self._taken.popitem(last=False)
        return taken


class _Taken:
    """What was taken of one window, slot by slot, oldest first."""

    __slots__ = ("slots", "total")

    def __init__(self) -> None:
        self.slots: deque[list[int]] = deque()
        self.total = 0

    def advance(self, slot: int) -> None:
        """Forget what has left the window. The slot just outside stays: a part of it may still be within."""
        while self.slots and self.slots[0][0] < slot - SLOTS:
            self.total -= self.slots.popleft()[1]

    def add(self, slot: int) -> None:
        """Count one."""
        if not self.slots or self.slots[-1][0] != slot:
            self.slots.append([slot, 0])
        self.slots[-1][1] += 1
        self.total += 1

    def leaves_at(self, most: int) -> int:
        """Return the slot in which there is room again."""
        excess = self.total + 1 - most
        for slot, number in self.slots:
            excess -= number
            if excess <= 0:
                return slot + SLOTS + 1
        return (self.slots[-1][0] if self.slots else 0) + SLOTS + 1  # where nothing at all is let through
