"""Node 22 and the suite, from npm at locked versions, in a folder that git ignores."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "conformance"
_OLDEST_NODE = 22


class ToolMissing(Exception):
    """Something that the suite needs is not there and cannot be had; the text says what to do."""


def install_suite() -> Path:
    """Return the folder of the suite's packages."""
    return _install("suite")


def find_node() -> Path:
    """Return the machine's Node, or one of our own where that is too old. Raises `ToolMissing`."""
    if (found := shutil.which("node")) is not None and _major(found) >= _OLDEST_NODE:
        return Path(found)
    for node in _install("node").glob("node-*/bin/node"):
        return node
    raise ToolMissing(f"The suite needs Node {_OLDEST_NODE} or newer, and npm has none for this machine: install it.")


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.removeprefix("v").partition(".")[0])


def _install(name: str) -> Path:
    """Install the packages of `npm/<name>` as locked, unless they are there; return their folder."""
    folder, wanted = CACHE / name, (HERE / "npm" / name / "package-lock.json").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may begin in the same clone
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            _npm_ci(name, folder)
            stamp.write_text(wanted)
    return folder / "node_modules"


def _npm_ci(name: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ToolMissing("The suite comes from npm, which is not here: install Node with npm.")
    sys.stderr.write(f"conformance: installing the {name} from npm (once) …\n")
    for file in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / "npm" / name / file, folder / file)
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ToolMissing(f"npm ci failed:\n{done.stderr.strip()}")
