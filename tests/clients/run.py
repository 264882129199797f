"""Runs foreign clients against a demonstration server of its own, and says what each could do."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "clients"
TOOL, ARGUMENTS = "list_products", {"limit": 1}
TIMEOUT_S = 120


@dataclass(frozen=True)
class Attempt:
    """What one client could do."""

    client: str
    tools: int
    rows: int
    error: str | None = None

    @property
    def good(self) -> bool:
        return self.error is None and self.tools > 0 and self.rows == ARGUMENTS["limit"]


@contextmanager
def served() -> Iterator[tuple[str, str]]:
    """Serve a demonstration store; yield its URL and key."""
    home = Path(tempfile.mkdtemp(prefix="mercato-clients-"))
    home.chmod(0o755)
    mercato = Path(sys.executable).with_name("mercato")
    command = [str(mercato), "serve", "--demo", "--port", "0", "--json", "--data-dir", str(home / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield ready["url"], ready["api_key"]
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def install() -> Path:
    """Install the clients into the cache; return where their commands are."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "typescript.mjs"):
        shutil.copy(HERE / name, CACHE / name)
    done = CACHE / "node_modules" / ".installed"
    lock = (HERE / "package-lock.json").read_text()
    if not done.exists() or done.read_text() != lock:
        command = ["npm", "ci", "--no-audit", "--no-fund", "--foreground-scripts=false"]
        subprocess.run(command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
        done.write_text(lock)
    return CACHE / "node_modules" / ".bin"


def output_of(command: list[str], commands: Path) -> str:
    """Run a client; return what it printed. Raises `RuntimeError` with its last words."""
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=CACHE, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise RuntimeError((done.stderr or done.stdout)[-400:])
    return done.stdout


def inspector(url: str, key: str, commands: Path) -> Attempt:
    base = ["mcp-inspector", "--cli", url, "--transport", "http", "--header", f"Authorization: Bearer {key}"]
    listed = json.loads(output_of([*base, "--method", "tools/list"], commands))
    call = ["--method", "tools/call", "--tool-name", TOOL, "--tool-arg", f"limit={ARGUMENTS['limit']}"]
    called = json.loads(output_of([*base, *call], commands))
    return Attempt("MCP Inspector", len(listed["tools"]), len(called["structuredContent"]["products"]))


def mcporter(url: str, key: str, commands: Path) -> Attempt:
    servers = {"mercato": {"baseUrl": url, "headers": {"Authorization": f"Bearer {key}"}}}
    (CACHE / "mcporter.json").write_text(json.dumps({"mcpServers": servers}))
    base = ["mcporter", "--config", "mcporter.json"]
    listed = json.loads(output_of([*base, "list", "mercato", "--json"], commands))
    called = json.loads(output_of([*base, "call", f"mercato.{TOOL}", f"limit:{ARGUMENTS['limit']}"], commands))
    return Attempt("mcporter", len(listed["tools"]), len(called["products"]))


def typescript(era: str, url: str, key: str, commands: Path) -> Attempt:
    answer = json.loads(output_of(["node", "typescript.mjs", url, key, era], commands))
    return Attempt(f"TypeScript client, {answer['version']}", answer["tools"], answer["rows"])


def main() -> int:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    as_json = parser.parse_args().json
    commands = install()
    attempts = []
    with served() as (url, key):
        for name, attempt in (
            ("MCP Inspector", lambda: inspector(url, key, commands)),
            ("mcporter", lambda: mcporter(url, key, commands)),
            ("TypeScript client, legacy", lambda: typescript("legacy", url, key, commands)),
            ("TypeScript client, auto", lambda: typescript("auto", url, key, commands)),
        ):
            try:
                attempts.append(attempt())
            except (RuntimeError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
                attempts.append(Attempt(name, 0, 0, f"{type(error).__name__}: {error}"))
    if as_json:
        print(json.dumps([{**asdict(attempt), "good": attempt.good} for attempt in attempts]))
    else:
        for attempt in attempts:
            words = f"{attempt.tools} tools, {attempt.rows} row" if attempt.error is None else attempt.error
            print(f"{'ok  ' if attempt.good else 'BAD '} {attempt.client}: {words}")
    return 0 if all(attempt.good for attempt in attempts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
