"""The report: medians over rounds, and ratios of what stood side by side, for a person, a program and README.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contestants import CASES, CONTESTANTS, Case, Contestant
from benchmarks.goals import Outcome, outcomes
from benchmarks.machine import REPOSITORY
from benchmarks.samples import Results, StreamSample, ratio

README = REPOSITORY / "benchmarks" / "README.md"


COLUMNS = ("server", "protocol", "requests/s (min-max)", "CPU µs/request", "p50 ms", "p99 ms", "RSS MB", "answer")
RATIO_COLUMNS = ("mercato", "peer", "times the requests/s", "times less CPU")
GOAL_COLUMNS = ("what", "taken by", "must be", "is (min-max)", "reached")
STREAM_COLUMNS = ("server", "streams", "KB per stream (min-max)", "opened per s", "core used while idle")


def print_results(results: Results, console: Console) -> None:
    """Print the tables, the goals last but for failures, which are loudest."""
    for case in CASES:
        if rows := list(_rows(results, case)):
            print_table(console, case.title, COLUMNS, rows)
        if ratios := list(_ratio_rows(results, case)):
            print_table(console, f"mercato against each peer: {case.title}", RATIO_COLUMNS, ratios)
    if results.streams:
        print_streams(results.streams, console)
    if goals := list(outcomes(results)):
        print_table(console, "Goals", GOAL_COLUMNS, [goal_row(goal) for goal in goals])
    console.print(_trust(results))
    for row, reason in results.failures.items():
        console.print(f"FAILED {row}: {reason}", style="bold red", markup=False)


def as_json(results: Results) -> dict[str, Any]:
    """Return everything, for a program."""
    ratios = [
        {
            "case": case.name,
            "mercato": ours.name,
            "peer": peer.name,
            "by": by,
            "median_min_max": ratio(results.of(ours.name, case.name), results.of(peer.name, case.name), by),
        }
        for case in CASES
        for ours, peer in _pairs(results, case)
        for by in ("requests_per_s", "server_cpu_us")
    ]
    return {**asdict(results), "ratios": ratios, "goals": [asdict(goal) for goal in outcomes(results)]}


def print_streams(samples: Sequence[StreamSample], console: Console) -> None:
    """Print what idle streams cost."""
    print_table(console, "Idle streams", STREAM_COLUMNS, stream_rows(samples))


def stream_rows(samples: Sequence[StreamSample]) -> list[Sequence[str]]:
    """Return a row for each server."""
    of = {
        title: [one for one in samples if one.title == title] for title in dict.fromkeys(one.title for one in samples)
    }
    return [
        (
            title,
            f"{found[0].streams:,}",
            _times(*_spread([one.kb_per_stream for one in found]), digits=1),
            f"{median(one.opened_per_s for one in found):,.0f}",
            f"{median(one.idle_core_used for one in found):.1%}",
        )
        for title, found in of.items()
    ]


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
        if samples := results.of(contestant.name, case.name):
            yield (
                contestant.title,
                contestant.era + (", session" if samples[0].has_sessions else ""),
                spread([one.requests_per_s for one in samples]),
                spread([one.server_cpu_us for one in samples]),
                f"{median(one.p50_ms for one in samples):.1f}",
                f"{median(one.p99_ms for one in samples):.1f}",
                f"{median(one.rss_mb for one in samples):.0f}",
                f"{samples[0].body_bytes:,} B {'event stream' if samples[0].is_stream else 'JSON'}",
            )


def _pairs(results: Results, case: Case) -> Iterable[tuple[Contestant, Contestant]]:
    for ours in CONTESTANTS:
        if ours.is_mercato and results.of(ours.name, case.name):
            for peer in CONTESTANTS:
                if not peer.is_mercato and results.of(peer.name, case.name):
                    yield ours, peer


def _ratio_rows(results: Results, case: Case) -> Iterable[Sequence[str]]:
    for ours, peer in _pairs(results, case):
        sides = results.of(ours.name, case.name), results.of(peer.name, case.name)
        speed, cpu = (ratio(*sides, by) for by in ("requests_per_s", "server_cpu_us"))
        yield ours.era, f"{peer.title}, {peer.era}", _times(*speed), _times(*cpu)


def spread(values: Sequence[float]) -> str:
    """Return the median with the least and the most."""
    return f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def goal_row(goal: Outcome) -> Sequence[str]:
    """Return the row of a goal."""
    measured = "missing" if goal.measured is None else _times(goal.measured, goal.least, goal.most)
    return goal.what, goal.by, goal.must, measured, "yes" if goal.reached else "NO"


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def _times(middle: float, least: float, most: float, digits: int = 2) -> str:
    return f"{middle:,.{digits}f} ({least:,.{digits}f}-{most:,.{digits}f})"


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
        return "" if results.streams else "Nothing was measured."
    calls = [one for one in samples if one.case != "row"]  # where it is, the engines work beside the load
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
    if goals := list(outcomes(results)):
        parts.append(f"### Goals\n\n{markdown_table(GOAL_COLUMNS, [goal_row(goal) for goal in goals])}\n")
    for case in CASES:
        if rows := list(_rows(results, case)):
            parts.append(f"### {case.title}\n\n{markdown_table(COLUMNS, rows)}\n")
        if ratios := list(_ratio_rows(results, case)):
            parts.append(f"{markdown_table(RATIO_COLUMNS, ratios)}\n")
    if results.streams:
        parts.append(f"### Idle streams\n\n{markdown_table(STREAM_COLUMNS, stream_rows(results.streams))}\n")
    parts.append(f"{_trust(results)}\n")
    parts += [f"\nFAILED {row}: {reason}\n" for row, reason in results.failures.items()]
    return "".join(parts)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    rule = ["---" if number < 2 else "---:" for number in range(len(columns))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (columns, rule, *rows))
