"""The goals: what a call may cost beside each peer's, in one run; and whether it was reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.contestants import CASE, CONTESTANT
from benchmarks.samples import Results, Sample, ratio

FULL_CORE = 0.95
"""From here on requests/s are compared: a server that used less of its core could have answered more."""
MOST_KB_PER_STREAM = 20.0


@dataclass(frozen=True, slots=True)
class Goal:
    """mercato beside a peer in one case: at least so many times its requests. Of several peers, the fastest counts."""

    ours: str
    peers: tuple[str, ...]
    case: str
    at_least: float


@dataclass(frozen=True, slots=True)
class Flatness:
    """mercato with many tools beside mercato with one: at most so many times the median latency."""

    ours: str
    many: str
    one: str
    at_most: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal and what came of it; `measured` is None where a row is missing."""

    what: str
    must: str
    measured: float | None
    least: float
    most: float
    by: str
    reached: bool


GOALS = (
    Goal("mercato", ("bare",), "call", 0.25),
    Goal("mercato", ("sdk",), "call", 2.5),
    Goal("mercato", ("fastmcp", "fastmcp-2025"), "call", 10),
    Goal("mercato", ("fastmcp",), "call", 400),
    Goal("mercato-2025", ("sdk-2025-sessions",), "call", 1.5),
    Goal("mercato", ("fastpath",), "row", 0.45),
    Goal("mercato", ("sdk",), "list", 80),
    Goal("mercato", ("fastmcp", "fastmcp-2025"), "list", 300),
    Goal("mercato", ("typescript",), "list", 8),
)
FLATNESS = tuple(
    Flatness(ours, f"many{load}", f"one{load}", 1.1) for ours in ("mercato", "mercato-2025") for load in ("", "-few")
)


def outcomes(results: Results) -> Iterator[Outcome]:
    """Yield what came of each goal that this run can tell of."""
    for goal in GOALS:
        if (outcome := _compared(results, goal)) is not None:
            yield outcome
    for flatness in FLATNESS:
        if (outcome := _flat(results, flatness)) is not None:
            yield outcome
    if (outcome := _memory(results)) is not None:
        yield outcome


def _compared(results: Results, goal: Goal) -> Outcome | None:
    ours = results.of(goal.ours, goal.case)
    peers = {name: found for name in goal.peers if (found := results.of(name, goal.case))}
    if not ours or len(peers) < len(goal.peers):
        return _missing(results, goal) if _was_tried(results, goal) else None
    name, theirs = max(peers.items(), key=lambda one: median(sample.requests_per_s for sample in one[1]))
    full = all(median(one.server_core_used for one in side) >= FULL_CORE for side in (ours, theirs))
    middle, least, most = ratio(ours, theirs, "requests_per_s" if full else "server_cpu_us")
    by = "requests/s" if full else f"CPU/request (cores used: {_core(ours)} and {_core(theirs)})"
    return Outcome(_title(goal, name), f">= {goal.at_least:g}", middle, least, most, by, middle >= goal.at_least)


def _missing(results: Results, goal: Goal) -> Outcome:
    return Outcome(_title(goal, goal.peers[0]), f">= {goal.at_least:g}", None, 0, 0, "a row failed", reached=False)


def _was_tried(results: Results, goal: Goal) -> bool:
    return all(
        results.of(name, goal.case) or f"{name} {goal.case}" in results.failures for name in (goal.ours, *goal.peers)
    )


def _title(goal: Goal, peer: str) -> str:
    ours, theirs = CONTESTANT[goal.ours], CONTESTANT[peer]
    return f"{CASE[goal.case].title}: {ours.era} against {theirs.title}, {theirs.era}"


def _flat(results: Results, flatness: Flatness) -> Outcome | None:
    many, one = (results.of(flatness.ours, case) for case in (flatness.many, flatness.one))
    if not many or not one:
        return None
    middle, least, most = ratio(one, many, "p50_ms")
    load = CASE[flatness.many].connections or results.options["connections"]
    what = (
        f"p50 with {CASE[flatness.many].tools} tools over 1 tool: {CONTESTANT[flatness.ours].era}, {load} connections"
    )
    must = f"<= {flatness.at_most:g}"
    return Outcome(what, must, middle, least, most, "p50", middle <= flatness.at_most)


def _memory(results: Results) -> Outcome | None:
    found = [one.kb_per_stream for one in results.streams if one.server == "mercato"]
    if not found:
        return None
    count = results.streams[0].streams
    what = f"memory of an idle listening stream, {count:,} of them"
    middle, must = median(found), f"<= {MOST_KB_PER_STREAM:g}"
    return Outcome(what, must, middle, min(found), max(found), "KB", middle <= MOST_KB_PER_STREAM)


def _core(samples: list[Sample]) -> str:
    return f"{median(one.server_core_used for one in samples):.0%}"
