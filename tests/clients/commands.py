"""The clients' commands: installed into the cache, and run apart from whoever sits at this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "clients"
COMMANDS, BROWSERS = CACHE / "node_modules" / ".bin", CACHE / "browsers"
VISITS = CACHE / "visits.log"
TIMEOUT_S = 60
_FILES = ("package.json", "package-lock.json", "typescript.mjs", "oauth.mjs", "used.mjs")
_OPENERS = ("xdg-open", "open", "www-browser", "x-www-browser", "sensible-browser")


def install() -> None:
    """Install the clients and the person's browser into the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copy(HERE / name, CACHE / name)
    done = CACHE / "node_modules" / ".installed"
    lock = (HERE / "package-lock.json").read_text()
    if not done.exists() or done.read_text() != lock:
        command = ["npm", "ci", "--no-audit", "--no-fund", "--foreground-scripts=false"]
        subprocess.run(command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
        done.write_text(lock)
    _install_person()


def _install_person() -> None:
    """Write what clients open a browser with, so that it is our person who comes, and never the one who sits here."""
    BROWSERS.mkdir(exist_ok=True)
    python, root, log = (shlex.quote(str(path)) for path in (sys.executable, ROOT, VISITS))
    for name in _OPENERS:
        opener = BROWSERS / name
        opener.write_text(f'#!/bin/sh\ncd {root} && exec {python} -m tests.clients.person "$1" >>{log} 2>&1\n')
        opener.chmod(0o755)


def environment(home: Path) -> dict[str, str]:
    """Return all that a client may know: an empty home, so that it has no settings, no keychain and no tokens."""
    path = os.pathsep.join((str(BROWSERS), str(COMMANDS), os.environ["PATH"]))
    of_inspector = {"MCP_AUTO_OPEN_ENABLED": "true", "MCP_INSPECTOR_SECRET_STORE": "file"}
    # No DISPLAY and no desktop: the opener that comes with some clients asks those first, and BROWSER last.
    return {"PATH": path, "HOME": str(home), "BROWSER": "www-browser", "NO_COLOR": "1", **of_inspector}


def output_of(command: list[str], home: Path) -> str:
    """Run a client; return what it printed. Raises `RuntimeError` with its last words."""
    done = subprocess.run(
        command,
        cwd=CACHE,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise RuntimeError((done.stderr or done.stdout)[-400:])
    return done.stdout
