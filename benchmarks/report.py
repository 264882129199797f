"""The report: medians over rounds, and ratios of what stood side by side, for a person, a program and README.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contestants import CASES, CONTESTANTS, Case, Contestant

BEGIN, END = "<!-- results: written by benchmarks/calls.py -->", "<!-- end of results -->"


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
    core_used_by_others: float
    stolen: float
    rss_mb: float
    body_bytes: int
    is_stream: bool


@dataclass(slots=True)
class Results:
    """Everything that one run of the driver found."""

    facts: dict[str, str]
    options: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def of(self, contestant: Contestant, case: Case) -> list[Sample]:
        """Return the runs of one row; none if any of them failed."""
        if f"{contestant.name} {case.name}" in self.failures:
            return []
        return [one for one in self.samples if one.contestant == contestant.name and one.case == case.name]

    def write_json(self, path: Path) -> None:
        """Write everything, for a program."""
        ratios = [
            {"case": case.name, "mercato": ours.name, "peer": peer.name, "by": by, "median_min_max": ratio}
            for case in CASES
            for ours, peer in _pairs(self, case)
            for by in ("requests_per_s", "server_cpu_us")
            for ratio in [self.ratio(ours, peer, case, by)]
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**asdict(self), "ratios": ratios}, indent=1) + "\n")

    def ratio(self, ours: Contestant, peer: Contestant, case: Case, by: str) -> tuple[float, float, float]:
        """Return how many times better mercato is: median, least and most over the rounds, each round with itself."""
        theirs = {one.round: getattr(one, by) for one in self.of(peer, case)}
        each = [
            (getattr(one, by) / theirs[one.round]) if by == "requests_per_s" else (theirs[one.round] / getattr(one, by))
            for one in self.of(ours, case)
            if one.round in theirs
        ]
        return median(each), min(each), max(each)


COLUMNS = ("server", "protocol", "requests/s (min-max)", "CPU µs/request", "p50 ms", "p99 ms", "RSS MB", "answer")
RATIO_COLUMNS = ("mercato", "peer", "times the requests/s", "times less CPU")


def print_results(results: Results, console: Console) -> None:
    """Print the tables, and failures loudest."""
    for case in CASES:
        if rows := list(_rows(results, case)):
            _print(console, case.title, COLUMNS, rows)
        if ratios := list(_ratio_rows(results, case)):
            _print(console, f"mercato against each peer: {case.title}", RATIO_COLUMNS, ratios)
    console.print(_trust(results))
    for row, reason in results.failures.items():
        console.print(f"FAILED {row}: {reason}", style="bold red", markup=False)


def write_results(results: Results, readme: Path) -> None:
    """Replace the marked section of README.md."""
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{readme.name} has lost its marks")
    readme.write_text(f"{before}{BEGIN}\n{_markdown(results)}{END}{after}")


def _rows(results: Results, case: Case) -> Iterable[Sequence[str]]:
    for contestant in CONTESTANTS:
        if samples := results.of(contestant, case):
            yield (
                contestant.title,
                contestant.era,
                _spread([one.requests_per_s for one in samples]),
                _spread([one.server_cpu_us for one in samples]),
                f"{median(one.p50_ms for one in samples):.1f}",
                f"{median(one.p99_ms for one in samples):.1f}",
                f"{median(one.rss_mb for one in samples):.0f}",
                f"{samples[0].body_bytes:,} B {'event stream' if samples[0].is_stream else 'JSON'}",
            )


def _pairs(results: Results, case: Case) -> Iterable[tuple[Contestant, Contestant]]:
    for ours in CONTESTANTS:
        if ours.is_mercato and results.of(ours, case):
            for peer in CONTESTANTS:
                if not peer.is_mercato and results.of(peer, case):
                    yield ours, peer


def _ratio_rows(results: Results, case: Case) -> Iterable[Sequence[str]]:
    for ours, peer in _pairs(results, case):
        speed, cpu = (results.ratio(ours, peer, case, by) for by in ("requests_per_s", "server_cpu_us"))
        yield ours.era, f"{peer.title}, {peer.era}", _times(*speed), _times(*cpu)


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def _times(middle: float, least: float, most: float) -> str:
    return f"{middle:.2f} ({least:.2f}-{most:.2f})"


def _print(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _trust(results: Results) -> str:
    """Say how quiet the machine was, and whether the load was the limit."""
    samples = results.samples
    if not samples:
        return "Nothing was measured."
    others = max(one.core_used_by_others for one in samples)
    stolen = max(one.stolen for one in samples)
    load = [one for one in samples if one.contestant == "bare"] or samples
    ceiling = 1e6 / median(one.load_cpu_us for one in load)
    return (
        f"Of the server's core, others used up to {others:.0%} and the host took up to {stolen:.0%} in a run. "
        f"The load could have asked about {ceiling:,.0f} times a second ({results.options['load']})."
    )


def _markdown(results: Results) -> str:
    facts = "".join(f"- {name}: {value}\n" for name, value in results.facts.items())
    options = ", ".join(f"{name} {value}" for name, value in results.options.items())
    parts = [f"\n{facts}- run: {options}\n"]
    for case in CASES:
        if rows := list(_rows(results, case)):
            parts.append(f"\n### {case.title}\n\n{_markdown_table(COLUMNS, rows)}")
        if ratios := list(_ratio_rows(results, case)):
            parts.append(f"\n{_markdown_table(RATIO_COLUMNS, ratios)}")
    parts.append(f"\n{_trust(results)}\n")
    parts += [f"\nFAILED {row}: {reason}\n" for row, reason in results.failures.items()]
    return "".join(parts) + "\n"


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---" if number < 2 else "---:" for number in range(len(columns))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (columns, rule, *rows))
