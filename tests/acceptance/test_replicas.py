"""Three `mercato serve` over the same engines, behind a proxy that sends each request to another of them."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.conftest import Server, run
from tests.conformance.proxy import Proxy
from tests.server.conftest import HELLO, envelope

TOOLS = ("list_orders", "list_products", "search_customers")


@dataclass
class Replica:
    port: int
    server: Server


class Replicas:
    """Several replicas, and where clients reach them all."""

    def __init__(self, data_dir: Path, public_port: int) -> None:
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{public_port}"
        self.all: list[Replica] = []

    def add(self, *arguments: str) -> Replica:
        port = free_port()
        server = Server(self.data_dir, "--port", str(port), *arguments, MERCATO_PUBLIC_URL=self.url)
        self.all.append(Replica(port, server))
        return self.all[-1]

    @property
    def key(self) -> str:
        return self.all[0].server.key

    @property
    def headers(self) -> dict[str, str]:
        accept = "application/json, text/event-stream"
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json", "accept": accept}

    def stop(self) -> None:
        for replica in self.all:
            with suppress(ValueError):  # those that a test has ended
                replica.server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def replicas() -> Iterator[Replicas]:
    home = Path(tempfile.mkdtemp(prefix="mercato-acceptance-"))
    home.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        several = Replicas(home / "data", free_port())
        stack.callback(several.stop)
        several.add("--demo")
        several.add()
        several.add()
        yield several


@asynccontextmanager
async def behind_a_proxy(replicas: Replicas) -> AsyncIterator[tuple[str, Counter[int]]]:
    """Yield the address, and how many requests each replica has had."""
    proxy = Proxy(replicas.all)
    async with proxy.listening(int(replicas.url.rpartition(":")[2])):
        yield f"{replicas.url}/mcp", proxy.routed


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
async def test_the_sdks_client_never_notices_that_there_are_three(replicas: Replicas, mode: str, version: str):
    async with (
        behind_a_proxy(replicas) as (url, seen),
        httpx2.AsyncClient(headers={"authorization": f"Bearer {replicas.key}"}, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        assert client.protocol_version == version
        for _ in range(3):
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names >= set(TOOLS)
            assert not (await client.call_tool("list_orders", {"limit": 1})).is_error
    assert len(seen) == 3


async def test_a_switch_that_is_turned_at_a_terminal_shows_on_every_replica(replicas: Replicas):
    async with httpx.AsyncClient(headers=replicas.headers, timeout=20) as http:
        before = [await listed(http, replica) for replica in replicas.all]
        done = await asyncio.to_thread(
            run, replicas.data_dir, "tool", "disable", "list_products", "--tenant", "demo", "--json"
        )
        assert done.returncode == 0, done.stderr
        during = [await listed(http, replica) for replica in replicas.all]
        await asyncio.to_thread(run, replicas.data_dir, "tool", "enable", "list_products", "--tenant", "demo")
        after = [await listed(http, replica) for replica in replicas.all]
    assert ["list_products" in names for names in (*before, *during, *after)] == [True] * 3 + [False] * 3 + [True] * 3


async def test_a_session_goes_on_when_its_replica_is_killed(replicas: Replicas):
    victim = await asyncio.to_thread(replicas.add)
    async with httpx.AsyncClient(headers=replicas.headers, timeout=20) as http:
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
        begun = await http.post(endpoint(victim), json=hello)
        http.headers["mcp-session-id"] = begun.headers["mcp-session-id"]
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await http.post(endpoint(victim), json=ready)).status_code == 202
        victim.server.stop(signal.SIGKILL)
        replicas.all.remove(victim)
        for number, replica in enumerate(replicas.all, 1):
            call = {"name": "list_orders", "arguments": {"limit": number}}
            body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}
            answer = (await http.post(endpoint(replica), json=body)).json()
            assert len(answer["result"]["structuredContent"]["orders"]) == number


async def test_replicas_that_are_told_to_end_lose_no_record_of_usage(replicas: Replicas):
    body, headers = envelope("tools/call", {"name": "search_customers", "arguments": {"query": "a"}})
    async with httpx.AsyncClient(headers=replicas.headers, timeout=20) as http:
        for replica in replicas.all:
            for _ in range(5):
                assert (await http.post(endpoint(replica), json=body, headers=headers)).status_code == 200
    calls = 5 * len(replicas.all)
    ends = [await asyncio.to_thread(replica.server.stop) for replica in replicas.all]
    replicas.all.clear()
    assert [code for code, _ in ends] == [0] * 3
    used = json.loads(run(replicas.data_dir, "usage", "--tenant", "demo", "--json").stdout)
    assert {one["key"]: one["calls"] for one in used["groups"]}["search_customers"] == calls
    assert used["admitted"] == used["total"]["calls"]


async def listed(http: httpx.AsyncClient, replica: Replica) -> set[str]:
    body, headers = envelope("tools/list")
    answer: dict[str, Any] = (await http.post(endpoint(replica), json=body, headers=headers)).json()
    return {tool["name"] for tool in answer["result"]["tools"]}


def endpoint(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.port}/mcp"
