"""Chaos of jobs: a random worker of five is killed every two seconds, under jobs whose effects can be counted.

Workers are forked from a process that has imported what they need: a start costs less than what two cores do in two
seconds. A kill waits while fewer than three are up, and the number of kills is shown.
Some jobs fail, some ask for another time, some beget others, for two tenants. Redis is restarted once and once it
forgets everything; PostgreSQL is restarted as after a crash, under those who ask for runs and those who work. In the
end each effect is there exactly once, no run is stuck or dead, and what a killed worker had was begun again within 15
seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.chaos.deployment import install_plugin
from benchmarks.deployment import temporary_folder
from benchmarks.options import between
from mercato.server.logs import configure_logs


def main() -> int:
    """Let there be chaos, report, and return 1 if anything is off."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    for name in [name for name in os.environ if name.startswith("MERCATO_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)  # nobody's real data
    configure_logs("error")
    with temporary_folder() as folder:
        install_plugin(folder / "site")
        from benchmarks.chaos_jobs.run import Run  # it needs the plugin

        try:
            told = asyncio.run(Run(options, folder).run())
        except (RuntimeError, OSError) as error:
            Console(stderr=True).print(f"chaos of jobs: {error}", style="red", markup=False)
            return 1
    told.show(as_json=options.json)
    return 0 if told.ok else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos-jobs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=between(100, 500_000), default=20_000, help="how many are asked for (20,000)")
    parser.add_argument("--seconds", type=between(10, 600), default=60, help="how long it takes to ask for them (60)")
    parser.add_argument("--workers", type=between(2, 9), default=5, help="how many workers there are (5)")
    parser.add_argument("--slots", type=between(1, 30), default=10, help="how many jobs each runs at once (10)")
    parser.add_argument("--seed", type=int, default=1, help="what chance begins with (1)")
    parser.add_argument("--log", type=Path, help="where to keep what the workers log")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout, for programs")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
