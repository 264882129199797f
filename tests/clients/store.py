"""The demonstration store that the clients use, with an owner who can sign in."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.clients.commands import TIMEOUT_S
from tests.clients.person import CATEGORY, EMAIL
from tests.server.browser import PASSWORD

MERCATO = str(Path(sys.executable).with_name("mercato"))


@dataclass(frozen=True)
class Store:
    """Where it is, and what a client must list there: with the key, and with what the person ticks."""

    url: str
    key: str
    everything: frozenset[str]
    ticked: frozenset[str]


@contextmanager
def served() -> Iterator[Store]:
    """Serve a store of its own."""
    home = Path(tempfile.mkdtemp(prefix="mercato-clients-"))
    home.chmod(0o755)
    data = ["--data-dir", str(home / "data"), "--json"]
    command = [MERCATO, "serve", "--demo", "--port", "0", *data]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        ready = _first_line(process)
        _said(["user", "password", EMAIL, *data], given=f"{PASSWORD}\n")
        yield _store(ready, _said(["tool", "list", "--tenant", ready["tenant"], *data]))
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _first_line(process: subprocess.Popen[str]) -> dict[str, str]:
    patience = Timer(TIMEOUT_S, process.kill)
    patience.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    patience.cancel()
    ready: dict[str, str] = json.loads(line)
    return ready


def _said(command: list[str], given: str = "") -> Any:
    done = subprocess.run(
        [MERCATO, *command], input=given, capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    return json.loads(done.stdout)


def _store(ready: dict[str, str], rows: list[dict[str, object]]) -> Store:
    """Say what must be listed from what the operator sees and what each tool says of itself, not from scopes."""
    url, key = ready["url"], ready["api_key"]
    reads = asyncio.run(_reading_tools(url, key))
    on = [row for row in rows if row["on"]]
    everything = frozenset(str(row["tool"]) for row in on)
    return Store(url, key, everything, frozenset(str(row["tool"]) for row in on if row["category"] == CATEGORY) & reads)


async def _reading_tools(url: str, key: str) -> frozenset[str]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        tools = (await client.list_tools()).tools
    return frozenset(tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint)
