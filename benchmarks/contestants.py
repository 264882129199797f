"""Who is measured, and with what: the servers, the cases, and the requests that each gets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.deployment import PLUGIN, Deployment
from benchmarks.load import ask
from benchmarks.machine import REPOSITORY
from benchmarks.plugin.mercato_bench.shape import ARGUMENTS, CATALOGUE, MEASURED, MOST_TOOLS
from benchmarks.process import Process
from benchmarks.servers.fastpath import TOOL as ORDER_TOOL
from benchmarks.wire import (
    FIRST_ID,
    HANDSHAKE,
    MODERN,
    Era,
    Request,
    RowFailed,
    check_answer,
    initialize_request,
    initialized_notification,
    rpc_request,
)


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of a server; `connections` where it is another number than the run's."""

    name: str
    title: str
    tools: int
    method: str = "tools/call"
    orders: bool = False
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a server needs to be started. `order_id` is of the row that both readers of the database read."""

    deployment: Deployment
    definitions: Path
    peers_python: Path
    node: tuple[str, ...]
    log: Path
    server_core: int
    load_core: int
    order_id: int


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server in one mode."""

    name: str
    title: str
    era: Era
    cases: tuple[str, ...]
    start: Callable[[Case, Surroundings], Process]
    sessions: bool = False
    is_mercato: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A server that answers well: its port, a request for each connection, and the answer that was checked."""

    port: int
    requests: list[Request]
    body: bytes
    answer_bytes: int
    has_sessions: bool


_FEW = 4
CASES = (
    Case("call", f"tools/call, no I/O, {CATALOGUE} tools", CATALOGUE),
    Case("list", f"tools/list, {CATALOGUE} tools", CATALOGUE, "tools/list"),
    Case("row", f"tools/call that reads one row of PostgreSQL, {CATALOGUE} tools", CATALOGUE, orders=True),
    Case("one", "tools/call, no I/O, 1 tool", 1),
    Case("many", f"tools/call, no I/O, {MOST_TOOLS} tools", MOST_TOOLS),
    Case("one-few", f"tools/call, no I/O, 1 tool, {_FEW} connections", 1, connections=_FEW),
    Case("many-few", f"tools/call, no I/O, {MOST_TOOLS} tools, {_FEW} connections", MOST_TOOLS, connections=_FEW),
)
CASE = {case.name: case for case in CASES}


def _bare(case: Case, around: Surroundings) -> Process:
    return _peer(around, sys.executable, "-m", "benchmarks.servers.bare")


def _lowlevel(*flags: str) -> Callable[[Case, Surroundings], Process]:
    def start(case: Case, around: Surroundings) -> Process:
        tools = str(_definitions(case, around))
        return _peer(around, sys.executable, "-m", "benchmarks.servers.lowlevel", "--tools", tools, *flags)

    return start


def _typescript(case: Case, around: Surroundings) -> Process:
    return _peer(around, *around.node, str(_definitions(case, around)))


def _definitions(case: Case, around: Surroundings) -> Path:
    """Write the definitions of as many tools as the case has to a file of their own."""
    tools = around.definitions.with_name(f"tools-{case.tools}.json")
    tools.write_text(json.dumps(json.loads(around.definitions.read_text())[: case.tools]))
    return tools


def _fastmcp(case: Case, around: Surroundings) -> Process:
    python, count = str(around.peers_python), str(case.tools)
    return _peer(around, python, "-m", "benchmarks.servers.fastmcp_server", "--count", count)


def _fastpath(case: Case, around: Surroundings) -> Process:
    dsn, database = around.deployment.database
    tenant_id = str(around.deployment.tenant.id)
    words = ("--dsn", dsn, "--database", database, "--tenant-id", tenant_id)
    return _peer(around, sys.executable, "-m", "benchmarks.servers.fastpath", *words)


def _mercato(case: Case, around: Surroundings) -> Process:
    return around.deployment.serve(case.tools, orders=case.orders, core=around.server_core, log=around.log)


def _peer(around: Surroundings, *command: str) -> Process:
    environment = {"PYTHONPATH": f"{REPOSITORY}:{PLUGIN}"}
    return Process(command, cores={around.server_core}, log=around.log, environment=environment)


_BOTH = ("call", "list")
_FLAT = ("one", "many", "one-few", "many-few")
CONTESTANTS = (
    Contestant("bare", "bare uvicorn, 300 bytes", MODERN, ("call",), _bare),
    Contestant("sdk", "SDK Server, schema look-up", MODERN, _BOTH, _lowlevel()),
    Contestant(
        "sdk-walk", "SDK Server, no look-up", MODERN, ("call", "one-few", "many-few"), _lowlevel("--no-look-up")
    ),
    Contestant("sdk-2025", "SDK Server, stateless", HANDSHAKE, _BOTH, _lowlevel()),
    Contestant("sdk-2025-sessions", "SDK Server, stateful", HANDSHAKE, _BOTH, _lowlevel("--stateful"), sessions=True),
    Contestant("fastmcp", "fastmcp", MODERN, _BOTH, _fastmcp),
    Contestant("fastmcp-2025", "fastmcp, stateless", HANDSHAKE, _BOTH, _fastmcp),
    Contestant("typescript", "TypeScript SDK, raw Server", MODERN, _BOTH, _typescript),
    Contestant("fastpath", "plain ASGI, one read by asyncpg", MODERN, ("row",), _fastpath),
    Contestant("mercato", "mercato", MODERN, (*_BOTH, "row", *_FLAT), _mercato, is_mercato=True),
    Contestant("mercato-2025", "mercato", HANDSHAKE, (*_BOTH, "row", *_FLAT), _mercato, sessions=True, is_mercato=True),
)
CONTESTANT = {contestant.name: contestant for contestant in CONTESTANTS}


def prepare(contestant: Contestant, case: Case, process: Process, around: Surroundings, connections: int) -> Prepared:
    """Wait for a server and check one answer of it. Raises `RowFailed`."""
    port = process.port()
    key = around.deployment.key if contestant.is_mercato else None
    count = connections if contestant.sessions else 1
    sessions = [_open_session(port, key) for _ in range(count)] if contestant.sessions else [None]
    requests = [_request(port, contestant, case, key, session, around.order_id) for session in sessions]
    answered = ask(port, requests[0])
    result = check_answer(answered, FIRST_ID)
    if case.method == "tools/list" and len(result["tools"]) != case.tools:
        raise RowFailed(f"{len(result['tools'])} tools are listed, not {case.tools}")
    each = requests * (connections // count)
    return Prepared(port, each, answered.body, answered.wire_bytes, has_sessions=sessions[0] is not None)


def add_order(deployment: Deployment, core: int, log: Path) -> int:
    """Add an order through mercato itself, and return its id."""
    with deployment.serve(CATALOGUE, orders=True, core=core, log=log) as process:
        port, parameters = process.port(), {"name": "add_bench_order", "arguments": {"number": "A-1001"}}
        request = rpc_request(port, "tools/call", parameters, MODERN, key=deployment.key)
        return int(check_answer(ask(port, request), FIRST_ID)["structuredContent"]["id"])


def _request(
    port: int, contestant: Contestant, case: Case, key: str | None, session: str | None, order_id: int
) -> Request:
    parameters: dict[str, object] = {}
    if case.orders:
        parameters = {"name": ORDER_TOOL, "arguments": {"order_id": order_id}}
    elif case.method == "tools/call":
        parameters = {"name": MEASURED, "arguments": ARGUMENTS}
    return rpc_request(port, case.method, parameters, contestant.era, key=key, session=session)


def _open_session(port: int, key: str | None) -> str | None:
    """Shake hands; return the session, or None where the server serves each request alone."""
    answered = ask(port, initialize_request(port, key))
    check_answer(answered, FIRST_ID)
    session = answered.header("mcp-session-id")
    if session is None:
        return None
    accepted = ask(port, initialized_notification(port, session, key))
    if accepted.status != 202:
        raise RowFailed(f"the end of the handshake was answered with HTTP {accepted.status}")
    return session
