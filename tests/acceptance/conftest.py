from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MERCATO = str(Path(sys.executable).with_name("mercato"))
OURS = ("MERCATO_", "DATABASE_", "REDIS_")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


class Server:
    """`mercato serve`, as a process."""

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = data_dir
        command = [MERCATO, "serve", "--port", "0", "--json", "--data-dir", str(data_dir), *arguments]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the server runs
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            stdin=subprocess.DEVNULL,
            env={**ENVIRONMENT, **environment},
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stderr()
        self.ready: dict[str, Any] = json.loads(line)
        self.url: str = self.ready["url"]
        self.key: str = self.ready.get("api_key", "")

    def stderr(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; return the exit code and what else it wrote to stdout."""
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        rest = self.process.stdout.read()
        self.process.stdout.close()
        self.errors.close()
        return code, rest


def run(data_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [MERCATO, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**ENVIRONMENT, "MERCATO_DATA_DIR": str(data_dir), **environment},
        check=False,
    )


def processes_of(data_dir: Path) -> list[int]:
    """Return the processes whose command line names the data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(data_dir).encode() in line:
                found.append(int(entry.name))
    return found


@pytest.fixture
def data_dir() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="mercato-acceptance-"))
    home.chmod(0o755)
    yield home / "data"
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One demonstration server for the tests that do not end it."""
    home = Path(tempfile.mkdtemp(prefix="mercato-acceptance-"))
    home.chmod(0o755)
    started = Server(home / "data", "--demo")
    yield started
    started.stop()
    shutil.rmtree(home, ignore_errors=True)
