"""Calls: mercato and its peers in turn, on one machine, in one run. `python -m benchmarks.calls --help`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks import report, streams
from benchmarks.contestants import CASES, CONTESTANTS, Case, Contestant, Prepared, Surroundings, add_order, prepare
from benchmarks.deployment import Deployment, definitions, deployed
from benchmarks.load import Measured, check_each, run_builtin
from benchmarks.machine import CoreTime, facts
from benchmarks.node import node_command
from benchmarks.options import between
from benchmarks.peers import LOCK, peers_python
from benchmarks.plugin.mercato_bench.shape import CATALOGUE
from benchmarks.process import Process, cores
from benchmarks.samples import Results, Sample
from benchmarks.wire import RowFailed
from benchmarks.wrk import run_wrk

_CHECKS = 3
_FEW_ROUNDS, _LONGEST = 20, 5
"""A slow row is measured until each connection was answered about so often, but at most so many times as long."""
Row = tuple[Contestant, Case]


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
    plan = _plan(options)
    with deployed(load_core) as deployment:
        around = _surroundings(deployment, plan, server_core, load_core)
        place = streams.prepare(deployment, options.streams, server_core) if options.streams else None
        for number in range(options.rounds):
            for contestant, case in plan if number % 2 == 0 else plan[::-1]:
                _measure_row(results, contestant, case, number, around, options, console)
            if place is not None:
                streams.measure(results, place, options.streams, number, console)
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
    parser.add_argument(
        "--streams", type=between(0, 10_000), default=None, help="idle streams (5,000; 0 for none, as with --only)"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="a server or a case; repeat for several")
    parser.add_argument("--load", choices=("wrk", "built-in"), default="wrk", help="what makes the load (wrk)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--write-results", action="store_true", help="rewrite the results in benchmarks/README.md")
    options = parser.parse_args()
    if options.load == "wrk" and shutil.which("wrk") is None:
        parser.error("wrk is not installed; `--load built-in` does without")
    if options.streams is None:
        options.streams = 0 if options.only else 5_000
    known = {one.name for one in (*CONTESTANTS, *CASES)}
    if unknown := set(options.only or ()) - known:
        parser.error(f"--only knows {', '.join(sorted(known))}; not {', '.join(sorted(unknown))}")
    return options


def _plan(options: argparse.Namespace) -> list[Row]:
    """Return the rows in their order; those whose latencies are compared with each other stand side by side."""
    rows = [
        (contestant, case)
        for case in CASES
        for contestant in CONTESTANTS
        if case.name in contestant.cases and _wanted(options, contestant, case)
    ]
    compared = [row for row in rows if row[1].tools != CATALOGUE]
    compared.sort(key=lambda row: (row[0].name, row[1].connections or 0))
    return [row for row in rows if row[1].tools == CATALOGUE] + compared


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
        "load": options.load,
        "streams": options.streams,
    }


def _surroundings(deployment: Deployment, plan: list[Row], server_core: int, load_core: int) -> Surroundings:
    tools, log = deployment.folder / "tools.json", deployment.folder / "server.log"
    tools.write_text(json.dumps(definitions(deployment.plugins)))
    servers = {contestant.name for contestant, _ in plan}
    return Surroundings(
        deployment,
        tools,
        peers_python=peers_python() if servers & {"fastmcp", "fastmcp-2025"} else Path(sys.executable),
        node=node_command() if "typescript" in servers else (),
        log=log,
        server_core=server_core,
        load_core=load_core,
        order_id=add_order(deployment, server_core, log) if any(case.orders for _, case in plan) else 0,
    )


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
    marks: list[Mark] = []
    with contestant.start(case, around) as process:
        ready = prepare(contestant, case, process, around, case.connections or options.connections)
        measured = _loaded(ready, options, process, lambda: marks.append(_mark(process, around)))
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
        body_bytes=len(ready.body),
        is_stream=not ready.body.startswith(b"{"),
        has_sessions=ready.has_sessions,
    )


def _loaded(ready: Prepared, options: argparse.Namespace, process: Process, mark: Callable[[], None]) -> Measured:
    """Put the load on. Before wrk, every connection asks a few times, and its answers are compared with the first."""
    if options.load == "built-in":
        return run_builtin(ready.port, ready.requests, warm_s=options.warm_seconds, seconds=options.seconds, mark=mark)
    per_second = check_each(ready.port, ready.requests, _CHECKS)
    # What is under way when wrk ends has cost the server its time and counts for nothing: let it be a small part.
    enough_s = min(_FEW_ROUNDS * len(ready.requests) / per_second, _LONGEST * options.seconds)
    return run_wrk(
        ready.port,
        ready.requests,
        ready.answer_bytes,
        warm_s=options.warm_seconds,
        seconds=max(options.seconds, enough_s),
        settle=process.settle,
        mark=mark,
    )


def _mark(process: Process, around: Surroundings) -> Mark:
    core, other = CoreTime.read(around.server_core), CoreTime.read(around.load_core)
    return Mark(time.perf_counter(), process.cpu_s(), core, other, process.rss_mb())


if __name__ == "__main__":
    raise SystemExit(main())
