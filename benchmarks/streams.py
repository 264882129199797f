"""Idle listening streams: what thousands of them cost in memory. `python -m benchmarks.streams --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.deployment import PLUGIN, Deployment, deployed
from benchmarks.listeners import Listeners, allow_files
from benchmarks.machine import REPOSITORY, facts
from benchmarks.options import between
from benchmarks.peers import LOCK
from benchmarks.plugin.mercato_bench.shape import CATALOGUE
from benchmarks.process import Process, cores
from benchmarks.samples import Results, StreamSample
from benchmarks.wire import Request, RowFailed, listen_request

MOST_OF_A_TENANT = 1_000
"""How many streams one tenant may hold in one process of mercato."""
_IDLE_S = 5.0
_TITLES = {
    "bare": "bare uvicorn, one event",
    "sse-starlette": "sse-starlette, one event and pings",
    "sdk": "SDK Server, subscriptions/listen",
    "mercato": "mercato, subscriptions/listen",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is measured: the deployment, as many keys as the streams need, and the cores."""

    deployment: Deployment
    keys: tuple[str, ...]
    log: Path
    server_core: int


def main() -> int:
    """Measure, report, and return 1 if any server failed."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    results = Results(facts(LOCK), {"rounds": options.rounds, "streams": options.streams})
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    with deployed(load_core) as deployment:
        place = prepare(deployment, options.streams, server_core)
        for number in range(options.rounds):
            measure(results, place, options.streams, number, Console(stderr=True))
    report.print_results(results, report.console())
    if options.json is not None:
        report.write_json(options.json, report.as_json(results))
    if options.write_results:
        described = f"rounds {options.rounds}, streams {options.streams}"
        table = report.markdown_table(report.STREAM_COLUMNS, report.stream_rows(results.streams))
        report.write_section("streams", report.markdown_facts(results.facts, described) + table)
    return 1 if results.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--streams", type=between(1, 10_000), default=5_000, help="how many streams (5,000)")
    parser.add_argument("--rounds", type=between(1, 20), default=3, help="how often everything is measured (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--write-results", action="store_true", help="rewrite the streams in benchmarks/README.md")
    return parser.parse_args()


def prepare(deployment: Deployment, streams: int, server_core: int) -> Place:
    """Make as many tenants as the streams need, and see that so many files may be open."""
    allow_files(streams + 1_000)
    further = (streams - 1) // MOST_OF_A_TENANT
    tenants = [deployment.tenant, *(deployment.add_tenant(f"listening-{number}") for number in range(further))]
    return Place(deployment, tuple(one.key for one in tenants), deployment.folder / "streams.log", server_core)


def measure(results: Results, place: Place, streams: int, number: int, console: Console) -> None:
    """Measure every server once; what fails is said at once and left out of the later rounds."""
    for server in list(_TITLES) if number % 2 == 0 else list(_TITLES)[::-1]:
        row = f"{server} streams"
        if row in results.failures:
            continue
        try:
            sample = replace(_measured(server, place, streams), round=number)
        except (RowFailed, RuntimeError, OSError) as error:
            results.failures[row] = str(error)
            console.print(f"{row}: FAILED: {error}", style="bold red", markup=False)
            continue
        results.streams.append(sample)
        console.print(f"round {number + 1}  {row:<28}{sample.kb_per_stream:>10,.1f} KB each", highlight=False)


def _measured(server: str, place: Place, streams: int) -> StreamSample:
    with _start(server, place) as process:
        port = process.port()
        with Listeners(port, _requests(server, port, place.keys, 1)):
            pass  # so that what is made with the first stream is not counted
        before = process.rss_mb()
        began = time.perf_counter()
        with Listeners(port, _requests(server, port, place.keys, streams)) as listeners:
            opened_s = time.perf_counter() - began
            process.settle()
            cpu_s = process.cpu_s()
            listeners.hold(_IDLE_S)
            idle = (process.cpu_s() - cpu_s) / _IDLE_S
            kb = (process.rss_mb() - before) * 1024 / streams
    return StreamSample(server, _TITLES[server], 0, streams, kb, streams / opened_s, idle)


def _start(server: str, place: Place) -> Process:
    if server == "mercato":
        return place.deployment.serve(CATALOGUE, orders=False, core=place.server_core, log=place.log)
    arguments = ["benchmarks.servers.streams", "--kind", server]
    if server == "sdk":
        tools = place.deployment.folder / "no-tools.json"
        tools.write_text("[]")
        arguments = ["benchmarks.servers.lowlevel", "--tools", str(tools)]
    environment = {"PYTHONPATH": f"{REPOSITORY}:{PLUGIN}"}
    command = [sys.executable, "-m", *arguments]
    return Process(command, cores={place.server_core}, log=place.log, environment=environment)


def _requests(server: str, port: int, keys: Sequence[str], count: int) -> Iterator[Request]:
    """Yield a request for each stream, the keys in turn."""
    of_key = [listen_request(port, key=key if server == "mercato" else None) for key in keys]
    return (of_key[number % len(of_key)] for number in range(count))


if __name__ == "__main__":
    raise SystemExit(main())
