"""A process that uses the engines, told what to do on standard input; `test_engines.py` runs and kills it."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def engines_alone():
    """The module without the rest of the package, whose import would take most of a test's time."""
    for name, folder in (("mercato", ROOT / "mercato"), ("mercato.server", ROOT / "mercato" / "server")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    return import_module("mercato.server.engines")


def use(data_dir: str, rounds: int) -> None:
    module = engines_alone()
    for _ in range(rounds):
        engines = module.Engines(Path(data_dir), durable=False)
        engines.start()
        sys.stdout.write("started\n")
        sys.stdout.flush()
        engines.wait(30)
        sys.stdout.write(json.dumps({"database": engines.database_url, "redis": engines.redis_url}) + "\n")
        sys.stdout.flush()
        if rounds == 1:
            sys.stdin.read()
        engines.stop()
    sys.stdout.write("stopped\n")


use(sys.argv[1], int(sys.argv[2]))
