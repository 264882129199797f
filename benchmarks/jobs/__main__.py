"""Queues of jobs side by side: mercato's ledger, bare arq, procrastinate. `python -m benchmarks.jobs --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import asyncpg
from rich.console import Console

from benchmarks import report
from benchmarks.deployment import temporary_folder
from benchmarks.jobs.goals import Found, outcomes
from benchmarks.machine import facts
from benchmarks.options import between
from benchmarks.peers import LOCK, peers_python
from benchmarks.process import Process, cores, pinned
from mercato.server.engines import Engines

COLUMNS = ("queue", "asked for, each alone/s", "in lots/s", "run/s", "CPU µs/job", "p50 ms", "p95 ms")
_OURS = (sys.executable, "-m", "benchmarks.jobs.ours")
_TITLES = {
    "mercato": "mercato",
    "full": "mercato, {done:,} runs that ended",
    "arq": "bare arq",
    "procrastinate": "procrastinate",
}
_LONGEST_S = 560
_DONE = """
    insert into mercato.jobs (tenant_id, name, version, payload, priority, state, attempt, attempts, due_at, created_at,
        started_at, finished_at)
    select 1 + n % 100, 'queue.nothing', 1, '{"number": 1}'::jsonb, 1, 'done', 1, 5, at, at, at, at
    from generate_series(1, $1) as n, lateral (select now() - n * interval '2 seconds' as at) as ended
"""


def main() -> int:
    """Measure and report; return 1 if a goal was missed."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    for name in [name for name in os.environ if name.startswith("MERCATO_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)  # nobody's real data
    known, found = facts(LOCK), Found({}, [])
    with ExitStack() as stack:
        empty, full = (stack.enter_context(_engines()) for _ in range(2))
        bench = Bench(options, empty, full)
        bench.prepare()
        for number in range(options.rounds):
            Console(stderr=True).print(f"round {number + 1} of {options.rounds}", highlight=False)
            bench.round(found, reverse=number % 2 == 1)
    described = f"jobs {options.jobs:,}, rounds {options.rounds}, done {options.done:,}, crowd {options.crowd:,}"
    rows, goals = _rows(found, options.done), list(outcomes(found, options.done))
    shown = [report.goal_row(goal) for goal in goals]
    console = report.console()
    report.print_table(console, f"Jobs: {described}", COLUMNS, rows)
    report.print_table(console, "Goals", report.GOAL_COLUMNS, shown)
    if options.json is not None:
        report.write_json(
            options.json, {"facts": known, "found": asdict(found), "goals": [asdict(one) for one in goals]}
        )
    if options.write_results:
        tables = report.markdown_table(report.GOAL_COLUMNS, shown) + "\n" + report.markdown_table(COLUMNS, rows)
        report.write_section("jobs", report.markdown_facts(known, described) + tables)
    return 0 if all(goal.reached for goal in goals) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=__doc__)
    parser.add_argument("--rounds", type=between(1, 20), default=5, help="how often each is measured (5)")
    parser.add_argument("--jobs", type=between(200, 50_000), default=3_000, help="how many jobs each runs (3,000)")
    parser.add_argument("--done", type=between(0, 5_000_000), default=1_000_000, help="ended runs (1,000,000)")
    parser.add_argument("--crowd", type=between(1_000, 200_000), default=50_000, help="of one tenant (50,000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--write-results", action="store_true", help="rewrite the jobs in benchmarks/README.md")
    return parser.parse_args()


@contextmanager
def _engines() -> Iterator[Engines]:
    """Start engines of their own on the last core; as durable as an operator's."""
    with temporary_folder() as folder, pinned({cores()[1]}):
        engines = Engines(folder / "data")
        engines.start()
        try:
            engines.wait()
            yield engines
        finally:
            engines.stop()


class Bench:
    """All queues: ours on an empty ledger and on one with a history, the peers on the engines of the first."""

    def __init__(self, options: argparse.Namespace, empty: Engines, full: Engines) -> None:
        self._options = options
        self._empty = empty
        self._full = full
        self._jobs = ("--jobs", str(options.jobs))

    def prepare(self) -> None:
        """Make the tables, the history and the database of the peer, and run everything once, for nothing."""
        for engines in (self._empty, self._full):
            self._run(*_OURS, "--data-dir", str(engines.data_dir), "--jobs", "200")
        asyncio.run(_fill(self._full, self._options.done))
        asyncio.run(_fill(self._empty, 0))
        asyncio.run(_make_database(self._empty))

    def round(self, found: Found, *, reverse: bool) -> None:
        """Measure each once; every other time the other way round."""
        commands = {
            "mercato": (*_OURS, "--data-dir", str(self._empty.data_dir), *self._jobs),
            "full": (*_OURS, "--data-dir", str(self._full.data_dir), *self._jobs),
            "arq": (sys.executable, "-m", "benchmarks.jobs.bare_arq", "--redis", self._empty.redis_url, *self._jobs),
            "procrastinate": (
                *(str(peers_python()), "-m", "benchmarks.jobs.with_procrastinate"),
                *("--dsn", _peer_url(self._empty), *self._jobs),
            ),
        }
        names = list(reversed(commands)) if reverse else list(commands)
        for name in names:
            found.samples.setdefault(name, []).append(self._run(*commands[name]))
        crowd = ("--data-dir", str(self._empty.data_dir), "--crowd", str(self._options.crowd))
        found.waits_s.append(self._run(*_OURS, *crowd)["waited_s"])

    def _run(self, *command: str) -> dict[str, float]:
        log = self._empty.data_dir.parent / "queue.log"
        with Process(command, cores={cores()[0]}, log=log, environment={}) as process:
            return process.ready(_LONGEST_S)


async def _fill(engines: Engines, done: int) -> None:
    """Store a history, and have the planner know of it as it would by itself soon."""
    connection = await asyncpg.connect(_superuser_url(engines, "mercato"))
    try:
        await connection.execute(_DONE, done, timeout=300)
        await connection.execute("vacuum analyze mercato.jobs", timeout=300)
    finally:
        await connection.close()


async def _make_database(engines: Engines) -> None:
    connection = await asyncpg.connect(engines.superuser_url)
    try:
        await connection.execute("create database peer")
    finally:
        await connection.close()


def _peer_url(engines: Engines) -> str:
    return _superuser_url(engines, "peer")


def _superuser_url(engines: Engines, database: str) -> str:
    assert engines.superuser_url is not None
    return engines.superuser_url.replace("@/postgres", f"@/{database}")


def _rows(found: Found, done: int) -> list[tuple[str, ...]]:
    return [
        (title.format(done=done), *(report.spread(found.of(name, what)) for what in Found.MEASURED))
        for name, title in _TITLES.items()
    ]


if __name__ == "__main__":
    raise SystemExit(main())
