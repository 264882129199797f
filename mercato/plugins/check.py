"""Checks a plugin in a process of its own, before it may be imported into the server.

A plugin may end the process at import, or never return from it; no `except` helps against that. What passed is
remembered under the distribution's files, so that an unchanged plugin costs a start nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from mercato.plugins.manager import Found, Plugins, discover

TIMEOUT_S = 60
_PASSED = "passed"


def check_plugin(name: str) -> str | None:
    """Load one plugin from outside in a process of its own; return what is wrong with it, or None."""
    command = [sys.executable, "-m", "mercato.plugins.check", name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"its import did not end within {TIMEOUT_S} seconds"
    for line in done.stdout.splitlines():  # bytes: what a plugin writes need not be text
        if line.startswith(b"{") and (verdict := _verdict(line)) is not None:
            return None if verdict == _PASSED else verdict
    return f"its import ended the process (exit code {done.returncode})"


def refused_plugins(found: Iterable[Found], data_dir: Path, blocked: Iterable[str] = ()) -> dict[str, str]:
    """Return the plugins from outside that must not be imported, with the reason."""
    outside = [one.name for one in found if not one.built_in and one.name not in set(blocked)]
    if not outside:
        return {}
    path = data_dir / "plugin-checks.json"
    passed = _remembered(path)
    refused: dict[str, str] = {}
    for name in outside:
        state = _state(name)
        if passed.get(name) != state:
            passed.pop(name, None)
            if (reason := check_plugin(name)) is not None:
                refused[name] = reason
            elif state is not None:
                passed[name] = state
    _remember(path, passed)
    return refused


def _verdict(line: bytes) -> str | None:
    try:
        verdict = json.loads(line).get("mercato_plugin_check")
    except (ValueError, RecursionError):
        return None
    return verdict if isinstance(verdict, str) else None


def _state(name: str) -> str | None:
    """Return a digest of the files of the distribution that brings the plugin; None where they are not known."""
    for point in importlib.metadata.entry_points(group="mercato.plugins", name=name):
        if point.dist is None or not point.dist.files or point.dist.read_text("direct_url.json"):
            return None  # an editable install changes without its record: check it at every start
        digest = hashlib.sha256(f"{sys.version}{point.value}".encode())
        for file in sorted(point.dist.files):
            located = Path(str(file.locate()))
            if located.is_file():
                stat = located.stat()
                digest.update(f"{file}:{stat.st_size}:{stat.st_mtime_ns};".encode())
        return digest.hexdigest()
    return None


def _remembered(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _remember(path: Path, passed: Mapping[str, str]) -> None:
    if _remembered(path) == dict(passed):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(passed)))
    except OSError:
        return  # a read-only data directory only means checking again at the next start


def _main(name: str) -> int:
    """Load the plugin here, and print the verdict as one line of JSON."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the log quotes a plugin's words, which may be no text
    plugins = Plugins()
    # With the built-in ones, whose names it must not take.
    plugins.load(one for one in discover() if one.built_in or one.name == name)
    reasons = [f"{failure.stage}: {failure.reason}" for failure in plugins.failures if failure.plugin == name]
    if not reasons and name not in plugins.loaded:
        reasons = ["it is not installed"]
    # On a line of its own, whatever the plugin has written before.
    sys.stdout.write("\n" + json.dumps({"mercato_plugin_check": "; ".join(reasons) or _PASSED}) + "\n")
    return 1 if reasons else 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1]))
