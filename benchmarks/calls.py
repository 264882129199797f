"""Calls: mercato and its peers in turn, on one machine, in one run. `python -m benchmarks.calls --help`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks import load, report
from benchmarks.contestants import CASES, CONTESTANTS, Case, Contestant, Surroundings, prepare
from benchmarks.deployment import Deployment, definitions, deployed
from benchmarks.machine import CoreTime, facts
from benchmarks.options import between
from benchmarks.peers import LOCK, peers_python
from benchmarks.process import Process, cores
from benchmarks.report import Results, Sample
from benchmarks.wire import RowFailed


@dataclass(frozen=True, slots=True)
class Mark:
    """The counters at one moment."""

    at: float
    server_cpu_s: float
    server_core: CoreTime
    load_core: CoreTime
    rss_mb: float


def main() -> int:
    """Measure, report, and return 1 if any row failed."""
    options = _options()
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    results = Results(facts(LOCK), _described(options))
    server_core, load_core = cores()
    if server_core == load_core:
        console.print("There is one core only: servers and load share it; compare nothing here.", style="red")
    os.sched_setaffinity(0, {load_core})
    plan = [
        (contestant, case)
        for case in CASES
        for contestant in CONTESTANTS
        if case.name in contestant.cases and _wanted(options, contestant, case)
    ]
    with deployed(load_core) as deployment:
        around = _surroundings(deployment, plan, server_core, load_core)
        for number in range(options.rounds):
            for contestant, case in plan if number % 2 == 0 else plan[::-1]:
                _measure_row(results, contestant, case, number, around, options, console)
    report.print_results(results, report.console())
    if options.json is not None:
        report.write_json(options.json, report.as_json(results))
    if options.write_results:
        report.write_section("calls", report.markdown(results))
    return 1 if results.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__)
    parser.add_argument("--rounds", type=between(1, 20), default=3, help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=between(1, 60), default=6, help="how long each run is (6)")
    parser.add_argument("--warm-seconds", type=between(1, 30), default=2, help="load before each run (2)")
    parser.add_argument("--connections", type=between(1, 256), default=32, help="connections kept busy (32)")
    parser.add_argument("--only", action="append", metavar="NAME", help="a server or a case; repeat for several")
    parser.add_argument("--wrk", action="store_true", help="load by wrk instead of the built-in generator")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--write-results", action="store_true", help="rewrite the results in benchmarks/README.md")
    options = parser.parse_args()
    if options.wrk and shutil.which("wrk") is None:
        parser.error("wrk is not installed; without --wrk the built-in generator is used")
    known = {one.name for one in (*CONTESTANTS, *CASES)}
    if unknown := set(options.only or ()) - known:
        parser.error(f"--only knows {', '.join(sorted(known))}; not {', '.join(sorted(unknown))}")
    return options


def _wanted(options: argparse.Namespace, contestant: Contestant, case: Case) -> bool:
    names = set(options.only or ())
    by_server = names & {one.name for one in CONTESTANTS}
    by_case = names & {one.name for one in CASES}
    return (not by_server or contestant.name in by_server) and (not by_case or case.name in by_case)


def _described(options: argparse.Namespace) -> dict[str, object]:
    return {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "warm_seconds": options.warm_seconds,
        "connections": options.connections,
        "load": "wrk" if options.wrk else "built-in",
    }


def _surroundings(
    deployment: Deployment, plan: list[tuple[Contestant, Case]], server_core: int, load_core: int
) -> Surroundings:
    tools = deployment.folder / "tools.json"
    tools.write_text(json.dumps(definitions(deployment.plugins)))
    needs_peers = any(contestant.name.startswith("fastmcp") for contestant, _ in plan)
    python = peers_python() if needs_peers else Path(sys.executable)
    return Surroundings(deployment, tools, python, deployment.folder / "server.log", server_core, load_core)


def _measure_row(
    results: Results,
    contestant: Contestant,
    case: Case,
    number: int,
    around: Surroundings,
    options: argparse.Namespace,
    console: Console,
) -> None:
    """Measure one row; what fails is said at once and left out of the later rounds."""
    row = f"{contestant.name} {case.name}"
    if row in results.failures:
        return
    try:
        sample = replace(_measure(contestant, case, around, options), round=number)
    except (RowFailed, RuntimeError, OSError) as error:
        results.failures[row] = str(error)
        console.print(f"{row}: FAILED: {error}", style="bold red", markup=False)
        return
    results.samples.append(sample)
    console.print(
        f"round {number + 1}  {row:<28}{sample.requests_per_s:>10,.0f}/s{sample.server_cpu_us:>10,.0f} µs CPU",
        highlight=False,
    )


def _measure(contestant: Contestant, case: Case, around: Surroundings, options: argparse.Namespace) -> Sample:
    generate = load.run_wrk if options.wrk else load.run_builtin
    marks: list[Mark] = []
    with contestant.start(case, around) as process:
        port, requests, body = prepare(contestant, case, process, around.deployment.key, options.connections)
        measured = generate(
            port,
            requests,
            warm_s=options.warm_seconds,
            seconds=options.seconds,
            mark=lambda: marks.append(_mark(process, around)),
        )
    began, ended = marks
    wall_s = ended.at - began.at
    cpu_s = ended.server_cpu_s - began.server_cpu_s
    others_s = max(0.0, ended.server_core.busy_s - began.server_core.busy_s - cpu_s)
    beside_load_s = max(0.0, ended.load_core.busy_s - began.load_core.busy_s - measured.load_cpu_s)
    return Sample(
        contestant=contestant.name,
        case=case.name,
        round=0,
        requests=measured.requests,
        requests_per_s=measured.requests / measured.seconds,
        p50_ms=measured.p50_ms,
        p99_ms=measured.p99_ms,
        server_cpu_us=cpu_s / measured.requests * 1e6,
        load_cpu_us=measured.load_cpu_s / measured.requests * 1e6,
        server_core_used=cpu_s / wall_s,
        server_core_used_by_others=others_s / wall_s,
        load_core_used_by_others=beside_load_s / wall_s,
        stolen=(ended.server_core.stolen_s - began.server_core.stolen_s) / wall_s,
        rss_mb=ended.rss_mb,
        body_bytes=len(body),
        is_stream=not body.startswith(b"{"),
    )


def _mark(process: Process, around: Surroundings) -> Mark:
    core, other = CoreTime.read(around.server_core), CoreTime.read(around.load_core)
    return Mark(time.perf_counter(), process.cpu_s(), core, other, process.rss_mb())


if __name__ == "__main__":
    raise SystemExit(main())
