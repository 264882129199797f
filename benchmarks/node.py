"""Node 22 and the TypeScript SDK, from npm at locked versions, in a folder below `.cache/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.machine import REPOSITORY

PACKAGES = REPOSITORY / "benchmarks" / "npm"
LOCK = PACKAGES / "package-lock.json"
_HOME = REPOSITORY / ".cache" / "benchmarks" / "npm"
_SERVER = REPOSITORY / "benchmarks" / "servers" / "typescript.mjs"
_OLDEST_NODE = 22


class NodeMissing(RuntimeError):
    """The TypeScript SDK cannot be measured here; the text says what is missing."""


def node_command() -> tuple[str, str]:
    """Return the words that start the TypeScript server, which is copied to where its packages are found."""
    _install()
    shutil.copyfile(_SERVER, _HOME / _SERVER.name)
    return str(_node()), str(_HOME / _SERVER.name)


def _install() -> None:
    """Install the packages as locked, unless they are there."""
    stamp, wanted = _HOME / "installed", LOCK.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise NodeMissing("the TypeScript SDK comes from npm, which is not here: install Node with npm")
    _HOME.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copyfile(PACKAGES / file, _HOME / file)
    command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=_HOME, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise NodeMissing(f"npm ci failed: {done.stderr.strip()[-500:]}")
    stamp.write_text(wanted)


def _node() -> Path:
    """Return the locked Node, or the machine's own where npm has none for it."""
    for node in (_HOME / "node_modules").glob("node-*/bin/node"):
        return node
    found = shutil.which("node")
    if found is not None:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=30).stdout
        if int(version.removeprefix("v").partition(".")[0]) >= _OLDEST_NODE:
            return Path(found)
    raise NodeMissing(f"the TypeScript SDK is measured on Node {_OLDEST_NODE}, which npm has not for this machine")
