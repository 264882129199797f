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
from benchmarks.plugin.mercato_bench.shape import CATALOGUE, MOST_TOOLS
from benchmarks.process import Process, pinned
from mercato.server.engines import Engines
from mercato.server.engines.postgres import DATABASE

PLUGIN = REPOSITORY / "benchmarks" / "plugin"
MERCATO = (str(Path(sys.executable).with_name("mercato")),)


ORDER_TOOLS = 2
"""What `BENCH_ORDERS` adds to the catalogue."""
_RAISED = "100000000"
_LIMITS = ("tenant", "caller", "read", "write", "lists")


@dataclass(frozen=True, slots=True)
class BenchTenant:
    """A tenant, and a key of it that sees the benchmark's tools only."""

    id: int
    slug: str
    key: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A data directory with engines that run over it, and the tenant that is measured."""

    folder: Path
    plugins: Path
    tenant: BenchTenant
    engines: Engines

    @property
    def key(self) -> str:
        """The key of the tenant that is measured."""
        return self.tenant.key

    @property
    def database(self) -> tuple[str, str]:
        """The address of the engine as its superuser, and the database, for peers that read the same table."""
        address = self.engines.superuser_url
        assert address is not None
        return address, DATABASE

    def serve(self, tools: int, *, orders: bool, core: int, log: Path) -> Process:
        """Start `mercato serve` on a free port, with as many tools as asked for."""
        command = [*MERCATO, "serve", "--port", "0", "--json", "--data-dir", str(self.folder / "data")]
        surroundings = environment(self.plugins, tools - ORDER_TOOLS if orders else tools, orders=orders)
        return Process(command, cores={core}, log=log, environment=surroundings)

    def add_tenant(self, slug: str) -> BenchTenant:
        """Make another tenant, alike."""
        return add_tenant(self.folder, self.plugins, slug)


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
            yield Deployment(folder, plugins, add_tenant(folder, plugins, "bench"), engines)
        finally:
            engines.stop()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that other users may enter: as root, the engines run as one of them."""
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def add_tenant(folder: Path, plugins: Path, slug: str) -> BenchTenant:
    """Create a tenant, switch the category on, raise its limits, and make a key."""
    surroundings = environment(plugins, CATALOGUE, orders=True)
    made = run(folder, surroundings, "tenant", "create", slug, "--name", slug.title(), "--owner", f"{slug}@b.example")
    run(folder, surroundings, "category", "enable", "bench", "--tenant", slug)
    _raise_limits(folder, surroundings, slug)
    scopes = ("--scope", "tools:read", "--scope", "tools:write", "--scope", "bench")
    key = run(folder, surroundings, "key", "create", "--tenant", slug, "--name", slug, *scopes)
    return BenchTenant(int(made["id"]), slug, str(key["key"]))


def _raise_limits(folder: Path, surroundings: dict[str, str], slug: str) -> None:
    """Raise every limit beyond what the load can reach. None is switched off: each call is counted all the same."""
    for name in _LIMITS:
        run(folder, surroundings, "limit", "set", name, _RAISED, "--tenant", slug)


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
    """Return the definitions of the tools as mercato sends them, for peers that take them ready-made."""
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
        env={**os.environ, **environment(plugins, MOST_TOOLS, orders=False)},
    )
    made: list[dict[str, Any]] = json.loads(done.stdout)
    return made
