"""The journal: what every client asked, where it went, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.chaos.fleet import Replica

UNFLUSHED_S = 2.0
"""What a killed process may not have written yet: its last second, and the time that writing takes."""
_MOST_SHOWN = 20

Outcome = Literal["open", "answered", "lost", "dropped", "wrong"]


@dataclass(slots=True)
class Entry:
    """One request. `lost`: its replica was killed under it. `dropped`: its client did not wait for the answer."""

    kind: str
    tenant: str
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    replica: Replica | None = None
    outcome: Outcome = "open"
    text: str = ""
    """The note that it writes."""

    def end(self, outcome: Outcome) -> None:
        """Note what came of it."""
        self.outcome, self.ended = outcome, time.monotonic()

    @property
    def was_on_a_victim(self) -> bool:
        """Whether it went to a replica that was killed."""
        return self.replica is not None and self.replica.killed_at is not None


class Journal:
    """Everything that happened. What must not is a violation, counted by its kind and shown for the first few."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.violations: Counter[str] = Counter()
        self.shown: list[str] = []
        self.happened: Counter[str] = Counter()
        self.written: dict[str, set[str]] = {}
        self._began = time.monotonic()

    def begin(self, kind: str, tenant: str, text: str = "") -> Entry:
        """Note a request."""
        entry = Entry(kind, tenant, text=text)
        self.entries.append(entry)
        return entry

    def violation(self, kind: str, detail: str) -> None:
        """Note what must not be."""
        self.violations[kind] += 1
        if len(self.shown) < _MOST_SHOWN:
            self.shown.append(f"{time.monotonic() - self._began:.1f} s: {kind}: {detail[:400]}")

    def history(self, text: str) -> str:
        """Return how often a note was asked for, and what came of it."""
        tries = [one for one in self.entries if one.text == text]
        return "; ".join(
            f"{self._when(one.began)} to {self._when(one.ended)} {one.outcome}, {self._where(one)}" for one in tries
        )

    def _when(self, at: float) -> str:
        return f"{at - self._began:.2f} s"

    def _where(self, entry: Entry) -> str:
        if entry.replica is None:
            return "nowhere"
        killed = entry.replica.killed_at
        return f"{entry.replica.port}" + ("" if killed is None else f" killed at {self._when(killed)}")

    def calls(self, tenant: str) -> Sequence[Entry]:
        """Return the calls of tools of one tenant."""
        return [one for one in self.entries if one.kind == "call" and one.tenant == tenant]

    def unflushed(self, tenant: str) -> int:
        """Return how many calls a killed process may have let in and not recorded."""
        return sum(
            one.replica is not None
            and one.replica.killed_at is not None
            and (not one.ended or one.ended >= one.replica.killed_at - UNFLUSHED_S)
            for one in self.calls(tenant)
        )

    def longest_s(self, kind: str) -> float:
        """Return how long the longest answered request of a kind took."""
        return max((one.ended - one.began for one in self.entries if one.kind == kind and one.ended), default=0.0)
