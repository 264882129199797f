"""Starts: how long from the command to the first answered call. `python -m benchmarks.start --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.deployment import MERCATO, run, temporary_folder
from benchmarks.load import ask
from benchmarks.machine import facts
from benchmarks.options import between
from benchmarks.peers import LOCK
from benchmarks.process import Process
from benchmarks.wire import FIRST_ID, MODERN, check_answer, rpc_request
from mercato.server.engines import Engines

COLUMNS = ("start", "what", "ms (min-max)")
Times = dict[tuple[str, str], list[float]]


def main() -> int:
    """Measure and report."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    known = facts(LOCK)
    times: Times = {}
    with temporary_folder() as folder:
        key, tool = _set_up(folder)
        for number in range(options.rounds):
            Console(stderr=True).print(f"round {number + 1} of {options.rounds}", highlight=False)
            _warm(folder, key, tool, times)
            _beside_running(folder, key, tool, times)
            _parts(folder, times)
    for _ in range(options.first_rounds):
        _first_ever(times)
    rows = [(start, what, report.spread(values)) for (start, what), values in times.items()]
    report.print_table(report.console(), "Starts", COLUMNS, rows)
    if options.json is not None:
        report.write_json(options.json, {"facts": known, "ms": {" / ".join(name): ms for name, ms in times.items()}})
    if options.write_results:
        described = f"rounds {options.rounds}, first_rounds {options.first_rounds}"
        report.write_section("start", report.markdown_facts(known, described) + report.markdown_table(COLUMNS, rows))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--rounds", type=between(1, 20), default=5, help="how many warm starts (5)")
    parser.add_argument("--first-rounds", type=between(1, 5), default=2, help="how many first starts (2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--write-results", action="store_true", help="rewrite the starts in benchmarks/README.md")
    return parser.parse_args()


def _set_up(folder: Path) -> tuple[str, str]:
    """Make a tenant and a key, and choose the tool to call: the first that needs no arguments."""
    run(folder, {}, "tenant", "create", "bench", "--name", "Bench", "--owner", "a@b.example")
    key = str(run(folder, {}, "key", "create", "--tenant", "bench", "--name", "bench")["key"])
    with _serve(folder) as process:
        port = process.port()
        return key, _callable_tool(port, key)


def _callable_tool(port: int, key: str) -> str:
    listed = check_answer(ask(port, rpc_request(port, "tools/list", {}, MODERN, key=key)), FIRST_ID)
    for tool in listed["tools"]:
        if tool["annotations"]["readOnlyHint"] and not tool["inputSchema"].get("required"):
            return str(tool["name"])
    raise RuntimeError("there is no tool that can be called without arguments")


def _warm(folder: Path, key: str, tool: str, times: Times) -> None:
    """Start everything: the usual start on a laptop. Nothing of it runs before."""
    with _serve(folder) as process:
        _first_call(process, "warm", key, tool, times)


def _beside_running(folder: Path, key: str, tool: str, times: Times) -> None:
    """Start while the engines run already, as a second process of the same data directory does."""
    engines = Engines(folder / "data")
    engines.start()
    try:
        engines.wait()
        with _serve(folder) as process:
            _first_call(process, "warm, engines running", key, tool, times)
    finally:
        engines.stop()


def _first_ever(times: Times) -> None:
    """Start in a directory that does not exist yet: with nothing in it, and with the demonstration store."""
    with temporary_folder() as folder:
        with _serve(folder) as process:
            process.ready()
            _note(times, "first ever", "command to ready", process.began)
        shutil.rmtree(folder / "data")
        with _serve(folder, "--demo") as process:
            port, key = process.port(), process.ready()["api_key"]
            _note(times, "first ever, --demo", "command to ready", process.began)
            tool = _callable_tool(port, key)
            began = time.perf_counter()
            _call(port, key, tool)
            _note(times, "first ever, --demo", "first call", began)


def _parts(folder: Path, times: Times) -> None:
    """Measure parts of a start, each alone; in a start the engines and the imports overlap."""

    def python(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120, stdin=subprocess.DEVNULL)

    _timed(times, "interpreter", lambda: python("pass"))
    _timed(times, "interpreter and imports", lambda: python("import uvloop, mercato.server.cli, mercato.server.app"))
    engines = Engines(folder / "data")
    try:
        _timed(times, "engines, to answer", engines.wait)
        asyncio.run(_migrations(folder, engines.database_url, times))
    finally:
        began = time.perf_counter()
        engines.stop()
        _note(times, "parts, each alone", "engines, to end", began)


async def _migrations(folder: Path, url: str, times: Times) -> None:
    from mercato.server.runtime import load_plugins, migrate
    from mercato.server.settings import Settings

    began = time.perf_counter()
    plugins = load_plugins(Settings(data_dir=folder / "data"))
    _note(times, "parts, each alone", "plugins, loaded (first round: with their imports)", began)
    began = time.perf_counter()
    await migrate(plugins, url)
    _note(times, "parts, each alone", "migrations, with nothing to do", began)


def _serve(folder: Path, *flags: str) -> Process:
    command = [*MERCATO, "serve", "--port", "0", "--json", "--data-dir", str(folder / "data"), *flags]
    everywhere = os.sched_getaffinity(0)
    return Process(command, cores=everywhere, log=folder / "server.log", environment={})


def _first_call(process: Process, start: str, key: str, tool: str, times: Times) -> None:
    port = process.port()
    _note(times, start, "command to ready", process.began)
    began = time.perf_counter()
    _call(port, key, tool)
    _note(times, start, "first call", began)
    _note(times, start, "command to first answered call", process.began)
    began = time.perf_counter()
    _call(port, key, tool)
    _note(times, start, "second call", began)


def _call(port: int, key: str, tool: str) -> None:
    parameters = {"name": tool, "arguments": {}}
    check_answer(ask(port, rpc_request(port, "tools/call", parameters, MODERN, key=key)), FIRST_ID)


def _timed(times: Times, what: str, work: Callable[[], object]) -> None:
    began = time.perf_counter()
    work()
    _note(times, "parts, each alone", what, began)


def _note(times: Times, start: str, what: str, began: float) -> None:
    times.setdefault((start, what), []).append((time.perf_counter() - began) * 1000)


if __name__ == "__main__":
    raise SystemExit(main())
