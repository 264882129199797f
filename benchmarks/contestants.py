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
from benchmarks.plugin.mercato_bench.shape import ARGUMENTS, MEASURED
from benchmarks.process import Process
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
    """What is asked of a server."""

    name: str
    title: str
    tools: int
    method: str = "tools/call"
    orders: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a server needs to be started."""

    deployment: Deployment
    definitions: Path
    peers_python: Path
    log: Path
    server_core: int
    load_core: int


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


CASES = (
    Case("call84", "tools/call, no I/O, 84 tools", 84),
    Case("call1", "tools/call, no I/O, 1 tool", 1),
    Case("list84", "tools/list, 84 tools", 84, "tools/list"),
    Case("row", "tools/call that reads one row under row-level security, 84 tools", 84, orders=True),
)
_ORDER_TOOLS = 2
"""What `BENCH_ORDERS` adds to the catalogue."""


def _bare(case: Case, around: Surroundings) -> Process:
    return _peer(around, sys.executable, "benchmarks.servers.bare")


def _lowlevel(*flags: str) -> Callable[[Case, Surroundings], Process]:
    def start(case: Case, around: Surroundings) -> Process:
        tools = around.definitions.with_name(f"tools-{case.tools}.json")
        tools.write_text(json.dumps(json.loads(around.definitions.read_text())[: case.tools]))
        return _peer(around, sys.executable, "benchmarks.servers.lowlevel", "--tools", str(tools), *flags)

    return start


def _fastmcp(case: Case, around: Surroundings) -> Process:
    return _peer(around, str(around.peers_python), "benchmarks.servers.fastmcp_server", "--count", str(case.tools))


def _mercato(case: Case, around: Surroundings) -> Process:
    return around.deployment.serve(case.tools, orders=case.orders, core=around.server_core, log=around.log)


def _peer(around: Surroundings, python: str, module: str, *arguments: str) -> Process:
    environment = {"PYTHONPATH": f"{REPOSITORY}:{PLUGIN}"}
    command = [python, "-m", module, *arguments]
    return Process(command, cores={around.server_core}, log=around.log, environment=environment)


_EVERY = ("call84", "call1", "list84")
CONTESTANTS = (
    Contestant("bare", "bare uvicorn, 300 bytes", MODERN, ("call84",), _bare),
    Contestant("sdk", "SDK Server, schema look-up", MODERN, _EVERY, _lowlevel()),
    Contestant("sdk-walk", "SDK Server, no look-up", MODERN, ("call84", "call1"), _lowlevel("--no-look-up")),
    Contestant("sdk-2025", "SDK Server, stateless", HANDSHAKE, _EVERY, _lowlevel()),
    Contestant("sdk-2025-sessions", "SDK Server, sessions", HANDSHAKE, _EVERY, _lowlevel("--stateful"), sessions=True),
    Contestant("fastmcp", "fastmcp", MODERN, _EVERY, _fastmcp),
    Contestant("fastmcp-2025", "fastmcp, stateless", HANDSHAKE, _EVERY, _fastmcp),
    Contestant("mercato", "mercato", MODERN, (*_EVERY, "row"), _mercato, is_mercato=True),
    Contestant("mercato-2025", "mercato", HANDSHAKE, (*_EVERY, "row"), _mercato, is_mercato=True),
)


def prepare(
    contestant: Contestant, case: Case, process: Process, key: str, connections: int
) -> tuple[int, list[Request], bytes]:
    """Wait for a server, check one answer of it, and return its port, a request for each connection, and the answer."""
    port = process.port()
    credential = key if contestant.is_mercato else None
    count = connections if contestant.sessions else 1
    sessions = [_open_session(port) for _ in range(count)] if contestant.sessions else [None]
    requests = [_request(port, contestant, case, credential, session) for session in sessions]
    answered = ask(port, requests[0])
    result = check_answer(answered, FIRST_ID)
    expected = case.tools + (_ORDER_TOOLS if case.orders else 0)
    if case.method == "tools/list" and len(result["tools"]) != expected:
        raise RowFailed(f"{len(result['tools'])} tools are listed, not {expected}")
    return port, requests * (connections // count), answered.body


def add_order(port: int, key: str) -> int:
    """Add an order through mercato itself, and return its id."""
    parameters = {"name": "add_bench_order", "arguments": {"number": "A-1001"}}
    result = check_answer(ask(port, rpc_request(port, "tools/call", parameters, MODERN, key=key)), FIRST_ID)
    return int(result["structuredContent"]["id"])


def _request(port: int, contestant: Contestant, case: Case, key: str | None, session: str | None) -> Request:
    parameters: dict[str, object] = {}
    if case.orders and key is not None:
        parameters = {"name": "read_bench_order", "arguments": {"order_id": add_order(port, key)}}
    elif case.method == "tools/call":
        parameters = {"name": MEASURED, "arguments": ARGUMENTS}
    return rpc_request(port, case.method, parameters, contestant.era, key=key, session=session)


def _open_session(port: int) -> str:
    answered = ask(port, initialize_request(port))
    check_answer(answered, FIRST_ID)
    session = answered.header("mcp-session-id")
    if session is None:
        raise RowFailed("the server began no session")
    accepted = ask(port, initialized_notification(port, session))
    if accepted.status != 202:
        raise RowFailed(f"the end of the handshake was answered with HTTP {accepted.status}")
    return session
