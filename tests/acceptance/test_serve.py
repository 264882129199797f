"""`mercato serve` from outside: one process, real clients, and what happens when it ends."""

from __future__ import annotations

import os
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.conftest import ENVIRONMENT, MERCATO, Server, processes_of, run


@asynccontextmanager
async def connected(server: Server, mode: str) -> AsyncIterator[Client]:
    """Open the SDK's client of the server."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {server.key}"}, timeout=30) as http,
        Client(streamable_http_client(server.url, http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
async def test_the_sdks_client_lists_and_calls_in_both_eras(server: Server, mode: str, version: str):
    async with connected(server, mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        orders = await client.call_tool("list_orders", {"limit": 3})
        wrong = await client.call_tool("list_orders", {"limit": 3000})
        assert client.protocol_version == version
    assert {"list_orders", "get_system_health"} <= tools
    assert len(orders.structured_content["orders"]) == 3
    assert wrong.is_error
    assert "`limit` must be at most 25" in wrong.content[0].text


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
async def test_the_sdks_client_lists_and_calls_over_stdio(server: Server, mode: str, version: str):
    arguments = ["stdio", "--tenant", "demo", "--data-dir", str(server.data_dir)]
    parameters = StdioServerParameters(command=MERCATO, args=arguments, env=ENVIRONMENT)
    async with Client(parameters, mode=mode, read_timeout_seconds=60) as client:
        result = await client.call_tool("list_products", {"limit": 1})
        assert client.protocol_version == version
    assert len(result.structured_content["products"]) == 1


async def test_a_toggle_at_the_terminal_shows_at_the_next_list_and_call(server: Server):
    async with connected(server, "auto") as client:
        done = run(server.data_dir, "tool", "disable", "get_product", "--tenant", "demo", "--json")
        assert done.returncode == 0, done.stderr
        tools = {tool.name for tool in (await client.list_tools()).tools}
        refused = await client.call_tool("get_product", {"product_id": 1})
        run(server.data_dir, "tool", "enable", "get_product", "--tenant", "demo")
        again = await client.call_tool("get_product", {"product_id": 1})
    assert "get_product" not in tools
    assert "mercato tool enable get_product --tenant demo" in refused.content[0].text
    assert not again.is_error


async def test_a_key_made_at_the_terminal_works_until_it_is_revoked(server: Server):
    import json

    made = json.loads(
        run(server.data_dir, "key", "create", "--tenant", "demo", "--scope", "tools:read", "--json").stdout
    )
    async with httpx2.AsyncClient() as client:
        headers = {"authorization": f"Bearer {made['key']}", "content-type": "application/json"}
        headers["accept"] = "application/json, text/event-stream"
        headers |= {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
        envelope = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": envelope}}
        before = await client.post(server.url, json=body, headers=headers)
        listed = run(server.data_dir, "key", "list", "--tenant", "demo", "--json").stdout
        revoked = run(server.data_dir, "key", "revoke", str(made["id"]), "--tenant", "demo")
        after = await client.post(server.url, json=body, headers=headers)
    assert (before.status_code, revoked.returncode, after.status_code) == (200, 0, 401)
    assert made["key"] not in listed
    assert "list_orders" in before.text
    assert "cancel_order" not in before.text


def test_a_server_leaves_nothing_behind_and_finds_its_data_again(data_dir: Path):
    first = Server(data_dir, "--demo")
    assert set(first.ready) == {"url", "api_key", "tenant", "setup_url", "pid"}
    assert first.ready["pid"] == first.process.pid
    code, rest = first.stop()
    assert (code, rest) == (0, ""), first
    assert processes_of(data_dir) == []
    for secret in ("secret.key", "demo.key"):
        assert stat.S_IMODE((data_dir / secret).stat().st_mode) == 0o600
    second = Server(data_dir, "--demo")
    try:
        assert second.key == first.key
    finally:
        second.stop(signal.SIGINT)


def test_a_killed_server_leaves_nothing_running_and_its_data_is_good(data_dir: Path):
    first = Server(data_dir, "--demo")
    first.stop(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while processes_of(data_dir) and time.monotonic() < deadline:
        os.sched_yield()
    assert processes_of(data_dir) == []
    second = Server(data_dir, "--demo")
    second.stop()
    assert second.key == first.key


def test_a_taken_port_is_one_line_and_exit_code_2(data_dir: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(data_dir, "serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "--port" in done.stderr


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}, "DATABASE_URL"),
        ({"REDIS_URL": "redis://127.0.0.1:1"}, "REDIS_URL"),
        ({"REDIS_URL": "nonsense"}, "REDIS_URL"),
        ({"MERCATO_PORT": "many"}, "MERCATO_PORT"),
        ({"MERCATO_SECRET_KEYS": "short"}, "MERCATO_SECRET_KEYS"),
        ({"MERCATO_DATA_DIR": "/proc/nowhere"}, "/proc/nowhere"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(data_dir: Path, environment: dict[str, str], word: str):
    done = run(data_dir, "serve", **{"MERCATO_PORT": "0", **environment})
    assert done.returncode == 2, done.stderr
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_the_doctor_finds_a_healthy_machine_healthy(server: Server):
    done = run(server.data_dir, "doctor")
    assert done.returncode == 0, done.stdout
    assert "BAD" not in done.stdout


def test_what_is_on_is_listed_and_a_refused_tenant_leaves_no_trace(server: Server):
    import json

    run(server.data_dir, "tenant", "create", "gamma", "--name", "Gamma", "--owner", "nomail")
    tenants = json.loads(run(server.data_dir, "tenant", "list", "--json").stdout)
    categories = json.loads(run(server.data_dir, "category", "list", "--tenant", "demo", "--json").stdout)
    tools = json.loads(run(server.data_dir, "tool", "list", "--tenant", "demo", "--json").stdout)
    assert "gamma" not in {tenant["slug"] for tenant in tenants}
    assert {"category": "commerce", "on": True} in categories
    assert {"tool": "cancel_order", "category": "commerce", "on": True} in tools


async def test_the_question_before_a_cancellation_names_the_order(server: Server):
    async with connected(server, "auto") as client:
        orders = (await client.call_tool("list_orders", {"status": "confirmed", "limit": 1})).structured_content[
            "orders"
        ]
        asked = await client.call_tool("cancel_order", {"order_id": orders[0]["id"], "reason": "wish"})
        absent = await client.call_tool("cancel_order", {"order_id": 10**9, "reason": "wish"})
    assert f"Cancel order {orders[0]['order_number']}" in asked.content[0].text
    assert "`confirm: true`" in asked.content[0].text
    assert "There is no order" in absent.content[0].text


def test_unknown_names_are_refused_with_those_there_are(server: Server):
    for arguments, word in (
        (("category", "enable", "nope", "--tenant", "demo"), "commerce"),
        (("tool", "enable", "nope", "--tenant", "demo"), "list_orders"),
        (("key", "create", "--tenant", "nope"), "demo"),
        (("key", "create", "--tenant", "demo", "--scope", "nope"), "tools:read"),
        (("key", "revoke", "999999", "--tenant", "demo"), "mercato key list"),
        (("tenant", "create", "Bad Slug", "--name", "x", "--owner", "a@b.example"), "lower-case"),
        (("tenant", "create", "demo", "--name", "x", "--owner", "a@b.example"), "already"),
        (("import", "nope", "--tenant", "demo"), "shopify-csv"),
        (("tool", "disable", "cancel_orders", "--tenant", "demo"), "cancel_order"),
        (("category", "disable", "commercee", "--tenant", "demo"), "commerce"),
        (("tenant", "create", "beta", "--name", "Beta", "--owner", "nomail"), "no e-mail address"),
        (("user", "remove", "owner@demo.example", "--tenant", "demo"), "last owner"),
    ):
        done = run(server.data_dir, *arguments)
        assert done.returncode in {1, 2}
        assert word in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
