"""The goals of the queue, each taken within a round, and the median over the rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from benchmarks.goals import Outcome

LONGEST_TURN_S, LONGEST_START_MS, FLAT = 2.0, 15.0, 1.2


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured, a sample for each round; and how long one waited behind another tenant's crowd."""

    MEASURED: ClassVar[Sequence[str]] = ("put_per_s", "lots_per_s", "drained_per_s", "cpu_us", "p50_ms", "p95_ms")
    samples: dict[str, list[Mapping[str, float]]]
    waits_s: list[float]

    def of(self, queue: str, what: str) -> list[float]:
        """Return one figure of a queue, by round."""
        return [sample[what] for sample in self.samples[queue]]

    def times(self, ours: str, theirs: str, what: str) -> list[float]:
        """Return how many times the one figure is the other, by round."""
        return [one / other for one, other in zip(self.of(ours, what), self.of(theirs, what), strict=True)]


def outcomes(found: Found, done: int) -> Iterator[Outcome]:
    """Yield what came of each goal."""
    history = f"{done:,} runs that ended"
    yield _at_least("jobs run, against bare arq at its defaults", found.times("mercato", "arq", "drained_per_s"), 0.8)
    yield _at_least(
        "asked for in a transaction, against procrastinate", found.times("mercato", "procrastinate", "put_per_s"), 1
    )
    yield _at_least(
        "asked for in lots of 100, against procrastinate", found.times("mercato", "procrastinate", "lots_per_s"), 1
    )
    yield _at_most("p50 from the commit to the start, idle, ms", found.of("mercato", "p50_ms"), LONGEST_START_MS)
    yield _at_most(f"p95 of that with {history}, against none", found.times("full", "mercato", "p95_ms"), FLAT)
    yield _at_least(f"jobs run with {history}, against none", found.times("full", "mercato", "drained_per_s"), 1 / FLAT)
    yield _at_most("one run behind another tenant's crowd begins after, s", found.waits_s, LONGEST_TURN_S)


def _at_least(what: str, values: Sequence[float], least: float) -> Outcome:
    middle = median(values)
    return Outcome(what, f">= {least:.2g}", middle, min(values), max(values), "ratio", middle >= least)


def _at_most(what: str, values: Sequence[float], most: float) -> Outcome:
    middle = median(values)
    return Outcome(what, f"<= {most:g}", middle, min(values), max(values), "median", middle <= most)
