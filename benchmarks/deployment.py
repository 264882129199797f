"""mercato as an operator has it: engines, a tenant, a key, and the benchmark's plugin installed from outside."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import REPOSITORY
from benchmarks.process import Process, pinned
from mercato.server.engines import Engines

PLUGIN = REPOSITORY / "benchmarks" / "plugin"
MERCATO = (str(Path(sys.executable).with_name("mercato")),)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A data directory with a tenant in it, and a key that sees the benchmark's tools only."""

    folder: Path
    key: str
    plugins: Path

    def environment(self, tools: int, *, orders: bool = False) -> dict[str, str]:
        """Return the environment in which mercato finds the plugin, with as many tools as asked for."""
        return environment(self.plugins, tools, orders=orders)

    def serve(self, tools: int, *, orders: bool, core: int, log: Path) -> Process:
        """Start `mercato serve` on a free port."""
        command = [*MERCATO, "serve", "--port", "0", "--json", "--data-dir", str(self.folder / "data")]
        return Process(command, cores={core}, log=log, environment=self.environment(tools, orders=orders))


def environment(plugins: Path, tools: int, *, orders: bool) -> dict[str, str]:
    """Return the environment in which mercato finds the plugin."""
    path = os.pathsep.join([str(plugins), str(REPOSITORY)])
    return {"PYTHONPATH": path, "BENCH_TOOLS": str(tools), "BENCH_ORDERS": "1" if orders else "0"}


@contextmanager
def deployed(core: int) -> Iterator[Deployment]:
    """Set mercato up in a temporary directory, its engines on `core`, and take it down again."""
    with temporary_folder() as folder, pinned({core}):
        plugins = install_plugin(folder / "site")
        engines = Engines(folder / "data")
        engines.start()  # from here, so that they stay on this core and over all servers
        try:
            engines.wait()
            yield Deployment(folder, set_up(folder, plugins), plugins)
        finally:
            engines.stop()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that other users may enter: as root, the engines run as one of them."""
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def set_up(folder: Path, plugins: Path) -> str:
    """Create the tenant, switch the category on, and return a key."""
    surroundings = environment(plugins, 84, orders=True)
    run(folder, surroundings, "tenant", "create", "bench", "--name", "Bench", "--owner", "a@b.example")
    run(folder, surroundings, "category", "enable", "bench", "--tenant", "bench")
    scopes = ("--scope", "tools:read", "--scope", "tools:write", "--scope", "bench")
    made = run(folder, surroundings, "key", "create", "--tenant", "bench", "--name", "bench", *scopes)
    return str(made["key"])


def run(folder: Path, surroundings: dict[str, str], *words: str) -> dict[str, Any]:
    """Run a command of mercato and return what it says."""
    command = [*MERCATO, *words, "--data-dir", str(folder / "data"), "--json"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **surroundings},
    )
    if done.returncode != 0:
        raise RuntimeError(f"`mercato {' '.join(words)}` failed: {(done.stderr or done.stdout)[-1_000:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def install_plugin(site: Path) -> Path:
    """Lay the plugin down as an installer would: the package, and its metadata with the entry point and all files."""
    shutil.copytree(PLUGIN / "mercato_bench", site / "mercato_bench", ignore=shutil.ignore_patterns("__pycache__"))
    metadata = site / "mercato_bench-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mercato-bench\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mercato.plugins]\nbench = mercato_bench.plugin\n")
    files = sorted(path for path in site.rglob("*") if path.is_file())
    with (metadata / "RECORD").open("w", newline="") as record:
        writer = csv.writer(record)
        for path in files:
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            writer.writerow([path.relative_to(site), f"sha256={digest}", path.stat().st_size])
        writer.writerow([(metadata / "RECORD").relative_to(site), "", ""])
    return site


def definitions(plugins: Path) -> list[dict[str, Any]]:
    """Return the definitions of all tools as mercato sends them, for peers that take them ready-made."""
    code = (
        "import json; from mercato_bench.plugin import bench; from mercato.server.mcp.wire import wire_tool;"
        "dumped = [wire_tool(tool).model_dump(by_alias=True, mode='json', exclude_none=True) for tool in bench.tools];"
        "print(json.dumps(dumped))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, **environment(plugins, 84, orders=False)},
    )
    made: list[dict[str, Any]] = json.loads(done.stdout)
    return made
