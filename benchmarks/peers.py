"""The environment of the peers that may not share ours: made once, from a lock, below `.cache/`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.machine import REPOSITORY

LOCK = REPOSITORY / "benchmarks" / "requirements-peers.lock"
_HOME = REPOSITORY / ".cache" / "benchmarks"


def peers_python() -> Path:
    """Return the interpreter of the environment, which is made anew when the lock has changed."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = _HOME / f"peers-{digest}"
    python, done = home / "bin" / "python", home / "complete"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        # Without dependencies: the lock is complete, and overrides one of them (see README.md).
        command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", LOCK]
        subprocess.run(command, check=True, timeout=900)
        done.touch()
    return python
