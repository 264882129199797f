"""The official MCP conformance suite against mercato. Started by `scripts/conformance`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from processes import CommandFailed
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from runs import RUNS, Run, Verdict, run_suite
from subject import server_under_test
from toolchain import CACHE, ToolMissing, find_node, install_suite

_FAILED, _SET_UP, _INTERRUPTED = 1, 2, 130
_TABLE_WIDTH = 100


def main() -> int:
    """Install what is needed, run, and say what came of it."""
    options = _options()
    wanted = [run for run in RUNS if not options.only or run.name in options.only]
    try:
        node, packages = find_node(), install_suite()
        results = CACHE / ("results" if options.replicas == 1 else f"results-of-{options.replicas}")
        verdicts = asyncio.run(_run_all(wanted, node, packages, results, options.replicas))
    except (ToolMissing, CommandFailed) as error:
        sys.stderr.write(f"conformance: {error}\n")
        return _SET_UP
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED
    _show_json(verdicts, options.replicas) if options.json else _show_table(verdicts, options.replicas)
    return 0 if all(verdict.good for verdict in verdicts) else _FAILED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    names = [run.name for run in RUNS]
    parser.add_argument("--only", action="append", choices=names, help="Do this run; repeat for several.")
    parser.add_argument("--replicas", type=int, choices=range(1, 10), default=1, help="So many processes (1).")
    parser.add_argument("--json", action="store_true", help="One line of JSON on stdout, for programs.")
    return parser.parse_args()


async def _run_all(runs: Sequence[Run], node: Path, packages: Path, results: Path, replicas: int) -> list[Verdict]:
    """Run one after the other against one server; its end is this function's, by whichever signal."""
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C does so by itself
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    results.mkdir(parents=True, exist_ok=True)
    log = results / "server.log"
    log.unlink(missing_ok=True)
    verdicts = []
    async with server_under_test(log, replicas) as subject:
        for run in runs:
            sys.stderr.write(f"conformance: {run.name} …\n")
            verdicts.append(await run_suite(run, node, packages, subject, results))
    return verdicts


def _show_json(verdicts: Sequence[Verdict], replicas: int) -> None:
    runs = [asdict(verdict) | {"ok": verdict.good} for verdict in verdicts]
    said = {"ok": all(verdict.good for verdict in verdicts), "replicas": replicas, "runs": runs}
    sys.stdout.write(json.dumps(said) + "\n")


def _show_table(verdicts: Sequence[Verdict], replicas: int) -> None:
    console = Console(highlight=False, soft_wrap=True, width=_TABLE_WIDTH)
    strict = ", ".join(run.name for run in RUNS if run.all_must_pass)
    table = Table(
        box=SIMPLE_HEAD,
        title="One process" if replicas == 1 else f"{replicas} replicas behind a proxy without stickiness",
        caption=f"Passed and failed count checks. In {strict} a warning, or a check left out, is a failure too.",
    )
    for column in ("Run", "Scenarios", "Passed", "Failed", "Result"):
        table.add_column(column, no_wrap=True)
    for verdict in verdicts:
        checks = (verdict.scenarios, verdict.passed, verdict.failed)
        table.add_row(verdict.run, *map(str, checks), "ok" if verdict.good else "FAILED")
    console.print(table)
    for verdict in verdicts:
        for reason in verdict.reasons:
            console.print(f"{verdict.run}: failed: {reason}", markup=False)
    warned = sorted({scenario for verdict in verdicts for scenario in verdict.warned})
    if warned:
        console.print(f"Warnings, which no run fails for: {', '.join(warned)}", markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
