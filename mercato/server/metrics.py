"""Metrics: what this process has done and what it holds, counted in plain integers, and read only when asked for.

Counting must cost a call next to nothing, so no library stands in the way; `metrics_page` gives the figures the
form that Prometheus reads. No label holds what a client may choose: tools are those of the catalogue.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets that durations of calls fall into; one more holds what took longer."""
JOB_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""The same for jobs: how long they took, and how late they began."""
MOST_SERIES = 10_000
"""Of calls; outcomes of a tool beyond that are counted as `other`."""

Read = Callable[[], float | Mapping[str, float]]
"""Returns a figure, or several by the value of their label."""
_KINDS = {
    "/mcp": "mcp",
    "/sse": "sse",
    "/messages": "sse",
    "/healthz": "probe",
    "/readyz": "probe",
    "/metrics": "metrics",
    "/manifest.json": "metadata",
    "/mcp/.well-known/openid-configuration": "metadata",
    "/authorize": "oauth",
    "/token": "oauth",
    "/register": "oauth",
    "/revoke": "oauth",
    "/introspect": "oauth",
}
_PREFIXES = {"/mcp/": "mcp", "/.well-known/": "metadata", "/static/": "static"}


@dataclass(frozen=True, slots=True)
class Watched:
    """A figure that somebody else keeps, and how to read it."""

    kind: Literal["gauge", "counter"]
    name: str
    text: str
    label: str | None
    read: Read


class Metrics:
    """The figures of one process. Everything is called on the event loop, and nothing waits."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str, str], int] = {}
        """How many calls, by tool, era and outcome."""
        self.durations: dict[str, list[float]] = {}
        """For each tool how many of its calls fell into each bucket, and at the end their sum in seconds."""
        self.requests: dict[tuple[str, int], int] = {}
        """How many HTTP requests, by kind of address and status."""
        self.decisions: dict[tuple[str, str], int] = {}
        """How many decisions of the limits: what was decided and, for a refusal, the limit that was reached."""
        self.job_runs: dict[tuple[str, str], int] = {}
        """How many attempts of jobs have ended in this process, by job and what they came to."""
        self.job_durations: dict[str, list[float]] = {}
        self.job_delays: dict[str, list[float]] = {}
        """Buckets as those of calls."""
        self.watched: list[Watched] = []
        self.before_page: list[Callable[[], Awaitable[None]]] = []
        """What is awaited before a page is read, for figures that must be fetched. Never raises."""

    def call(self, tool: str, era: str, outcome: str, seconds: float) -> None:
        """Count a call of a tool of the catalogue, when it has ended. About a microsecond, for it is on every path."""
        key = (tool, era, outcome)
        try:
            self.calls[key] += 1
            duration = self.durations[tool]
        except KeyError:
            duration = self._first(key)
        duration[bisect_left(DURATIONS_S, seconds)] += 1
        duration[-1] += seconds

    def _first(self, key: tuple[str, str, str]) -> list[float]:
        if len(self.calls) >= MOST_SERIES:
            key = (*key[:2], "other")
        self.calls[key] = self.calls.get(key, 0) + 1
        return self.durations.setdefault(key[0], [0] * (len(DURATIONS_S) + 2))

    def request(self, path: str, status: int) -> None:
        """Count an HTTP request, when it was answered; status 0 where it was not."""
        key = (_KINDS.get(path) or kind_of(path), status)
        self.requests[key] = self.requests.get(key, 0) + 1

    def admitted(self, how: Literal["leased", "asked", "local"]) -> None:
        """Count what the limits let through: from a lease, after asking Redis, or alone while Redis is away."""
        key = (how, "")
        self.decisions[key] = self.decisions.get(key, 0) + 1

    def limited(self, limit: str) -> None:
        """Count a refusal by a limit."""
        key = ("limited", limit)
        self.decisions[key] = self.decisions.get(key, 0) + 1

    def job_began(self, job: str, delay_s: float) -> None:
        """Count how much later than it was due a job began."""
        _observe(self.job_delays, job, JOB_SECONDS, delay_s)

    def job_ended(self, job: str, outcome: str, seconds: float) -> None:
        """Count an attempt of a job that has ended, by what the run is now, or why this process has it no more."""
        self.job_runs[job, outcome] = self.job_runs.get((job, outcome), 0) + 1
        _observe(self.job_durations, job, JOB_SECONDS, seconds)

    def gauge(self, name: str, text: str, read: Read, *, label: str | None = None) -> None:
        """Show a figure that goes up and down; `read` is called for each page, and returns several by `label`."""
        self.watched.append(Watched("gauge", name, text, label, read))

    def counter(self, name: str, text: str, read: Read, *, label: str | None = None) -> None:
        """Show a figure that only grows; `read` is called for each page, and returns several by `label`."""
        self.watched.append(Watched("counter", name, text, label, read))


def _observe(histograms: dict[str, list[float]], name: str, bounds: Sequence[float], seconds: float) -> None:
    buckets = histograms.setdefault(name, [0] * (len(bounds) + 2))
    buckets[bisect_left(bounds, seconds)] += 1
    buckets[-1] += seconds


def kind_of(path: str) -> str:
    """Return the kind of an address: a label must not hold what people type."""
    if (kind := _KINDS.get(path)) is not None:
        return kind
    return next((kind for prefix, kind in _PREFIXES.items() if path.startswith(prefix)), "page")
