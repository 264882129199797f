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
from benchmarks.machine import REPOSITORY

README = REPOSITORY / "benchmarks" / "README.md"


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
            print_table(console, case.title, COLUMNS, rows)
        if ratios := list(_ratio_rows(results, case)):
            print_table(console, f"mercato against each peer: {case.title}", RATIO_COLUMNS, ratios)
    console.print(_trust(results))
    for row, reason in results.failures.items():
        console.print(f"FAILED {row}: {reason}", style="bold red", markup=False)


def as_json(results: Results) -> dict[str, Any]:
    """Return everything, for a program."""
    ratios = [
        {"case": case.name, "mercato": ours.name, "peer": peer.name, "by": by, "median_min_max": ratio}
        for case in CASES
        for ours, peer in _pairs(results, case)
        for by in ("requests_per_s", "server_cpu_us")
        for ratio in [results.ratio(ours, peer, case, by)]
    ]
    return {**asdict(results), "ratios": ratios}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_section(name: str, text: str) -> None:
    """Replace a marked section of README.md."""
    begin, end = f"<!-- {name}: written by --write-results -->", f"<!-- end of {name} -->"
    before, _, rest = README.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{README.name} has lost the marks of {name}")
    README.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


def _rows(results: Results, case: Case) -> Iterable[Sequence[str]]:
    for contestant in CONTESTANTS:
        if samples := results.of(contestant, case):
            yield (
                contestant.title,
                contestant.era,
                spread([one.requests_per_s for one in samples]),
                spread([one.server_cpu_us for one in samples]),
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


def spread(values: Sequence[float]) -> str:
    """Return the median with the least and the most."""
    return f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def _times(middle: float, least: float, most: float) -> str:
    return f"{middle:.2f} ({least:.2f}-{most:.2f})"


def console() -> Console:
    """Return a console that is wide enough also where nobody watches."""
    wide = Console()
    return wide if wide.is_terminal else Console(width=150)


def print_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; numbers stand to the right."""
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
    calls = [one for one in samples if one.case != "row"]  # there, the engines work beside the load
    others = max(one.server_core_used_by_others for one in samples)
    beside = max((one.load_core_used_by_others for one in calls), default=0.0)
    stolen = max(one.stolen for one in samples)
    text = (
        f"In a run others used up to {others:.0%} of the server's core and up to {beside:.0%} of the load's core, "
        f"and the host took up to {stolen:.0%} of the server's core."
    )
    if bare := [one for one in samples if one.contestant == "bare"]:
        cost, used = (median(getattr(one, name) for one in bare) for name in ("load_cpu_us", "server_core_used"))
        text += (
            f" The load ({results.options['load']}) cost {cost:.0f} µs per request against the bare answer, which is "
            f"{1e6 / cost:,.0f} requests/s at most; the bare server used {used:.0%} of its core."
        )
    return text


def markdown_facts(facts: dict[str, str], options: str) -> str:
    """Return the facts as a list."""
    return "".join(f"- {name}: {value}\n" for name, value in facts.items()) + f"- run: {options}\n\n"


def markdown(results: Results) -> str:
    """Return the results for README.md."""
    options = ", ".join(f"{name} {value}" for name, value in results.options.items())
    parts = [markdown_facts(results.facts, options)]
    for case in CASES:
        if rows := list(_rows(results, case)):
            parts.append(f"### {case.title}\n\n{markdown_table(COLUMNS, rows)}\n")
        if ratios := list(_ratio_rows(results, case)):
            parts.append(f"{markdown_table(RATIO_COLUMNS, ratios)}\n")
    parts.append(f"{_trust(results)}\n")
    parts += [f"\nFAILED {row}: {reason}\n" for row, reason in results.failures.items()]
    return "".join(parts)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    rule = ["---" if number < 2 else "---:" for number in range(len(columns))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (columns, rule, *rows))
