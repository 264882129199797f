"""Neighbours: what others feel while one tenant misbehaves. `python -m benchmarks.neighbours --help`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks import report
from benchmarks.deployment import BenchTenant, Deployment, deployed
from benchmarks.listeners import allow_files
from benchmarks.load import ask
from benchmarks.machine import REPOSITORY, facts
from benchmarks.misbehaviour import KINDS, STREAMS
from benchmarks.options import between
from benchmarks.paced import run_paced
from benchmarks.peers import LOCK
from benchmarks.plugin.mercato_bench.shape import ARGUMENTS, CATALOGUE, MEASURED
from benchmarks.process import Process, cores
from benchmarks.wire import FIRST_ID, MODERN, Request, RowFailed, check_answer, rpc_request

MOST_RATIO = 2.0
COLUMNS = ("one tenant", "what came back", "core used", "p50 ms", "p99 ms", "p99 ratio (min-max)", "")
"""Of two figures in a cell the first is from before, the second from while it misbehaved."""
_MEASURES = ("core_before", "core_during", "p50_before", "p50_during", "p99_before", "p99_during")
_SPARE_S = 30


@dataclass(frozen=True, slots=True)
class Felt:
    """What the others' calls took before and during one misbehaviour, in milliseconds, and what it got for it."""

    kind: str
    calls: int
    p50_before: float
    p50_during: float
    p99_before: float
    p99_during: float
    core_before: float
    core_during: float
    seen: dict[str, int]

    @property
    def ratio(self) -> float:
        """How many times as long the slow calls took."""
        return self.p99_during / self.p99_before


def main() -> int:
    """Measure, report, and return 1 if anybody felt too much of it."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    console, known = Console(stderr=True), facts(LOCK)
    felt: list[Felt] = []
    failures: dict[str, str] = {}
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    allow_files(STREAMS + 1_000)
    with deployed(load_core) as deployment:
        rude = deployment.add_tenant("rude")
        for number in range(options.rounds):
            for kind in options.only or KINDS:
                try:
                    one = _felt(kind, deployment, rude, server_core, options)
                except (RowFailed, RuntimeError, OSError) as error:
                    failures[kind] = str(error)
                    continue
                felt.append(one)
                said = f"{one.p99_before:>8.1f} ms, then {one.p99_during:.1f} ms"
                console.print(f"round {number + 1}  {kind:<10}p99{said}", highlight=False)
    rows = [_row(kind, found) for kind in KINDS if (found := [one for one in felt if one.kind == kind])]
    report.print_table(report.console(), "Neighbours", COLUMNS, rows)
    for kind, reason in failures.items():
        console.print(f"FAILED {kind}: {reason}", style="bold red", markup=False)
    if options.json is not None:
        report.write_json(options.json, {"facts": known, "felt": [asdict(one) for one in felt], "failures": failures})
    if options.write_results:
        described = f"rounds {options.rounds}, seconds {options.seconds}, {options.per_second} calls per second"
        report.write_section(
            "neighbours", report.markdown_facts(known, described) + report.markdown_table(COLUMNS, rows)
        )
    return 1 if failures or any(row[-1] != "ok" for row in rows) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--rounds", type=between(1, 20), default=3, help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=between(2, 60), default=10, help="how long each is, before and during (10)")
    parser.add_argument("--per-second", type=between(10, 1_000), default=200, help="calls of the others (200)")
    parser.add_argument("--only", action="append", choices=tuple(KINDS), help="one kind; repeat for several")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--write-results", action="store_true", help="rewrite the neighbours in benchmarks/README.md")
    return parser.parse_args()


def _felt(kind: str, deployment: Deployment, rude: BenchTenant, core: int, options: argparse.Namespace) -> Felt:
    """Measure the others' calls on a fresh server, first alone and then beside the misbehaviour."""
    log = deployment.folder / "neighbours.log"
    with deployment.serve(CATALOGUE, orders=False, core=core, log=log) as process:
        port = process.port()
        parameters = {"name": MEASURED, "arguments": ARGUMENTS}
        request = rpc_request(port, "tools/call", parameters, MODERN, key=deployment.key)
        check_answer(ask(port, request), FIRST_ID)
        run_paced(port, request, per_second=options.per_second, seconds=1)
        before, core_before = _calls(process, request, options)
        with _misbehaving(kind, port, rude, options.seconds) as misbehaviour:
            during, core_during = _calls(process, request, options)
            seen = _what_it_did(misbehaviour)
    p50, p99 = ([_quantile(calls, share) for calls in (before, during)] for share in (0.5, 0.99))
    return Felt(kind, len(during), p50[0], p50[1], p99[0], p99[1], core_before, core_during, seen)


def _calls(process: Process, request: Request, options: argparse.Namespace) -> tuple[list[float], float]:
    """Call at the pace; return how long each took, and how much of its core the server used meanwhile."""
    began, cpu_s = time.perf_counter(), process.cpu_s()
    latencies = run_paced(process.port(), request, per_second=options.per_second, seconds=options.seconds)
    return latencies, (process.cpu_s() - cpu_s) / (time.perf_counter() - began)


@contextmanager
def _misbehaving(kind: str, port: int, rude: BenchTenant, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Start it, wait until it begins, and see that it ends."""
    command = [sys.executable, "-m", "benchmarks.misbehaviour", kind, "--port", str(port), "--seconds", str(seconds)]
    environment = {**os.environ, "BENCH_KEY": rude.key}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the misbehaviour {kind} did not begin")
        yield process
    finally:
        process.kill()
        process.wait()


def _what_it_did(misbehaviour: subprocess.Popen[str]) -> dict[str, int]:
    try:
        said: dict[str, int] = json.loads(misbehaviour.communicate(timeout=_SPARE_S)[0].splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the misbehaviour did not end within {_SPARE_S} s") from None
    return said


def _quantile(ordered: Sequence[float], share: float) -> float:
    if not ordered:
        raise RowFailed("nothing was answered")
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _row(kind: str, felt: Sequence[Felt]) -> tuple[str, ...]:
    ratios = [one.ratio for one in felt]
    seen = ", ".join(f"{what}: {count:,}" for what, count in sorted(felt[-1].seen.items()))
    of = {name: median(getattr(one, name) for one in felt) for name in _MEASURES}
    return (
        KINDS[kind],
        seen,
        f"{of['core_before']:.0%}, {of['core_during']:.0%}",
        f"{of['p50_before']:.1f}, {of['p50_during']:.1f}",
        f"{of['p99_before']:.1f}, {of['p99_during']:.1f}",
        f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        "ok" if median(ratios) <= MOST_RATIO else f"over {MOST_RATIO:g}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
