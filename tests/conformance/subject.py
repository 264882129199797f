"""The server under test: `mercato serve` as anybody runs it, with the fixtures installed as a plugin from outside."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from processes import CommandFailed, output_of, process
from proxy import credential_proxy

from mercato.server.engines import Engines

_PLUGIN = Path(__file__).parent / "plugin"
_MERCATO = Path(sys.executable).with_name("mercato")
_LONGEST_START_S = 90
_TENANT = "conformance"
_OWNER = "owner@conformance.example"


@dataclass(frozen=True)
class Subject:
    """The server under test. At `open_url` no key is needed: the proxy there has one. At `url` everybody needs one."""

    open_url: str
    url: str
    owner: str
    env: dict[str, str] = field(repr=False)
    log: Path

    @property
    def issuer(self) -> str:
        """Who it is as an authorization server."""
        return self.url.removesuffix("/mcp")

    async def command(self, *words: str, given: str | None = None) -> str:
        """Run a command of mercato beside the server, with `given` to read; return what it said."""
        return await output_of([_MERCATO, *words], log=self.log, env=self.env, given=given)


@asynccontextmanager
async def server_under_test(log: Path) -> AsyncIterator[Subject]:
    """Serve from a directory that is removed afterwards."""
    with _scratch() as scratch, _engines(scratch / "data"):
        site = scratch / "site"
        env = _environment(scratch / "data", site)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        await output_of([*pip, "--target", site, _PLUGIN], log=log)
        async with process([_MERCATO, "serve", "--port", "0", "--json"], log=log, env=env) as running:
            url = await _announced(running, log)
            address = urlsplit(url)
            key = await _key(env, log)
            async with credential_proxy(address.hostname or "", address.port or 0, key) as port:
                yield Subject(f"http://localhost:{port}{address.path}", url, _OWNER, env, log)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mercato-conformance-") as folder:
        Path(folder).chmod(0o755)  # as root the engines run as another user, who must get here
        yield Path(folder)


@contextmanager
def _engines(data_dir: Path) -> Iterator[None]:
    """Hold the engines that the server and the commands join: they are gone when this ends, however those ended."""
    engines = Engines(data_dir, durable=False)
    try:
        engines.start()
        yield
    finally:
        engines.stop()


def _environment(data_dir: Path, site: Path) -> dict[str, str]:
    """Return the environment without what would lead to anybody's real data."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MERCATO_") and name not in {"DATABASE_URL", "REDIS_URL"}
    }
    return kept | {"MERCATO_DATA_DIR": str(data_dir), "PYTHONPATH": str(site), "MERCATO_LOG_LEVEL": "warning"}


async def _announced(running: asyncio.subprocess.Process, log: Path) -> str:
    """Wait for the line that says where the server is."""
    try:
        async with asyncio.timeout(_LONGEST_START_S):
            line = await running.stdout.readline() if running.stdout else b""
    except TimeoutError:
        raise CommandFailed(f"mercato did not start in {_LONGEST_START_S} s; see {log}") from None
    if not line:
        raise CommandFailed(f"mercato did not start; see {log}")
    return str(json.loads(line)["url"])


async def _key(env: dict[str, str], log: Path) -> str:
    """Return a key that sees only the fixtures: the first tool of the list must be the one that the suite expects."""
    owner = ["--name", "Conformance", "--owner", _OWNER]
    scopes = ["--scope", "tools:read", "--scope", "conformance"]
    await output_of([_MERCATO, "tenant", "create", _TENANT, *owner], log=log, env=env)
    await output_of([_MERCATO, "category", "enable", "conformance", "--tenant", _TENANT], log=log, env=env)
    made = await output_of(
        [_MERCATO, "key", "create", "--tenant", _TENANT, "--name", "suite", *scopes, "--json"], log=log, env=env
    )
    return str(json.loads(made)["key"])
