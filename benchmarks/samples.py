"""What was measured: one sample for each run of a server, and everything of one run of the driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one server in one case."""

    contestant: str
    case: str
    round: int
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    load_cpu_us: float
    server_core_used: float
    server_core_used_by_others: float
    load_core_used_by_others: float
    stolen: float
    rss_mb: float
    body_bytes: int
    is_stream: bool
    has_sessions: bool


@dataclass(frozen=True, slots=True)
class StreamSample:
    """The idle streams of one server: how many, what they cost in memory, and what waiting with them cost."""

    server: str
    title: str
    round: int
    streams: int
    kb_per_stream: float
    opened_per_s: float
    idle_core_used: float


@dataclass(slots=True)
class Results:
    """Everything that one run of the driver found."""

    facts: dict[str, str]
    options: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)
    streams: list[StreamSample] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def of(self, contestant: str, case: str) -> list[Sample]:
        """Return the runs of one row; none if any of them failed."""
        if f"{contestant} {case}" in self.failures:
            return []
        return [one for one in self.samples if one.contestant == contestant and one.case == case]


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], by: str) -> tuple[float, float, float]:
    """Return how many times better the first are: median, least and most over the rounds, each with itself."""
    beside = {one.round: getattr(one, by) for one in theirs}
    each = [
        (getattr(one, by) / beside[one.round]) if by == "requests_per_s" else (beside[one.round] / getattr(one, by))
        for one in ours
        if one.round in beside
    ]
    return median(each), min(each), max(each)
