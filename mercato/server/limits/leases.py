"""Leases: calls that were counted in Redis in advance, for this process to let through without asking."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from mercato.server.limits.windows import Window

_MOST_KEPT = 10_000


@dataclass(slots=True)
class Lease:
    """So many calls, counted in `slot`. It ends with the slot: a call is never counted earlier than it was made."""

    slot: int
    left: int
    until: float


class Leases:
    """What this process holds leased; bounded, so that a crowd of callers cannot fill its memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Lease] = OrderedDict()

    def take_all(self, windows: Sequence[Window], now: float) -> bool:
        """Take one of each, or nothing. Every call comes by here: it looks plain because that is fast."""
        kept = self._kept
        for window in windows:
            lease = kept.get(window.place)
            if lease is None or lease.left < 1 or lease.until <= now:
                break
            lease.left -= 1
        else:
            return True
        for taken in windows:
            if taken is window:
                return False
            kept[taken.place].left += 1
        return False

    def take(self, window: Window, now: float) -> Lease | None:
        """Take one; return the lease that it is of, in case that it must be put back."""
        lease = self._kept.get(window.place)
        if lease is None or lease.left < 1 or lease.until <= now:
            return None
        lease.left -= 1
        return lease

    def pop(self, window: Window) -> Lease | None:
        """Let go of a lease that has ended, and return it if something of it is left, to be given back."""
        lease = self._kept.pop(window.place, None)
        return lease if lease is not None and lease.left > 0 else None

    def put(self, window: Window, lease: Lease) -> None:
        """Keep a lease."""
        self._kept[window.place] = lease
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
