"""The server under test: `mercato serve` as anybody runs it, with the fixtures installed as a plugin from outside.

As several replicas it is so many processes over the same engines, behind a proxy that sends no client to the same one
twice in a row.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import CommandFailed, output_of, process
from proxy import Proxy

from mercato.server.engines import Engines

_PLUGIN = Path(__file__).parent / "plugin"
_MERCATO = Path(sys.executable).with_name("mercato")
_PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
_LONGEST_START_S = 90
_TENANT = "conformance"
_OWNER = "owner@conformance.example"
_LIMITS = ("tenant", "caller", "read", "write", "heavy", "lists")
_MORE_THAN_THE_SUITE_ASKS = "1000000"


@dataclass(frozen=True)
class Replica:
    """One process of the server under test."""

    port: int


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
async def server_under_test(log: Path, replicas: int) -> AsyncIterator[Subject]:
    """Serve from a directory that is removed afterwards."""
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(_scratch())
        stack.enter_context(_engines(scratch / "data"))
        env = _environment(scratch / "data", scratch / "site")
        await output_of([*_PIP, "--target", scratch / "site", _PLUGIN], log=log)
        public = Proxy()
        if replicas > 1:
            env["MERCATO_PUBLIC_URL"] = f"http://127.0.0.1:{await stack.enter_async_context(public.listening())}"
        for port in _free_ports(replicas):
            running = await stack.enter_async_context(
                process([_MERCATO, "serve", "--port", str(port), "--json"], log=log, env=env)
            )
            url = await _announced(running, log)  # one after the other: they share a machine with much else
            public.upstreams.append(Replica(port))
        private = Proxy(public.upstreams, key=await _key(env, log))
        open_port = await stack.enter_async_context(private.listening())
        yield Subject(f"http://localhost:{open_port}/mcp", url, _OWNER, env, log)


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
    """Return the environment without what would lead to anybody's real data, and with limits that are not reached."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MERCATO_") and name not in {"DATABASE_URL", "REDIS_URL"}
    }
    limits = {f"MERCATO_LIMIT_{name.upper()}": _MORE_THAN_THE_SUITE_ASKS for name in _LIMITS}
    ours = {"MERCATO_DATA_DIR": str(data_dir), "PYTHONPATH": str(site), "MERCATO_LOG_LEVEL": "warning"}
    return kept | limits | ours


def _free_ports(count: int) -> list[int]:
    """Return ports for the replicas: behind a public address a server does not say which one it picked."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


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
