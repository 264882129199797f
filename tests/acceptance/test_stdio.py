"""`mercato stdio` from outside: raw lines into a real process, and what comes back."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import ENVIRONMENT, MERCATO, Server, run
from tests.acceptance.test_plugins import install

HELLO = {"protocolVersion": "2025-11-25", "clientInfo": {"name": "tests", "version": "1"}, "capabilities": {}}
ANSWER_S = 60
NOISY = '''
import os, subprocess, sys
from pydantic import BaseModel
from mercato import Category, ToolContext, hookimpl

print("noise at import")
noisy = Category("noisy", "Writes to stdout.")

class Said(BaseModel):
    text: str

@noisy.tool(read_only=True)
async def make_noise(ctx: ToolContext) -> Said:
    """Write to stdout in every way there is, and read stdin."""
    print("printed noise", flush=True)
    print("noise that stays in the buffer")
    os.write(1, b"written noise\\\\n")
    subprocess.run(["echo", "a child's noise"], check=True)
    return Said(text=f"read {sys.stdin.read()!r}")

@hookimpl
def register_categories():
    return [noisy]
'''.replace("\\\\", "\\")


class Terminal:
    """`mercato stdio`, as a process."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [MERCATO, "stdio", "--tenant", "demo", "--data-dir", str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **environment},
        )
        self.lines: queue.Queue[bytes] = queue.Queue()
        self.errors: list[bytes] = []
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, method: str, params: dict[str, Any] | None = None, **rest: Any) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, **rest}).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        line = self.lines.get(timeout=ANSWER_S)
        assert line, b"".join(self.errors).decode()
        found: dict[str, Any] = json.loads(line)
        return found

    def greet(self) -> None:
        self.send("initialize", HELLO, id="hello")
        assert self.answer()["result"]["protocolVersion"] == "2025-11-25"
        self.send("notifications/initialized")

    def end(self, number: int | None = None) -> tuple[int, bytes]:
        """Close its input, or send it a signal; return the exit code and what it said that nobody took."""
        assert self.process.stdin is not None
        if number is None:
            self.process.stdin.close()
        elif self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return code, b"".join(iter(self.lines.get_nowait, b""))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += self.process.stderr


@pytest.fixture(scope="module")
def terminal(server: Server) -> Iterator[Terminal]:
    started = Terminal(server.data_dir, MERCATO_MAX_BODY_BYTES="100000")
    started.greet()
    yield started
    started.end()


def _line(request_id: Any, method: Any, params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()


HALF = {"name": "search_orders", "arguments": {"query": "\ud800"}}


@pytest.mark.parametrize(
    ("line", "request_id", "code"),
    [
        (_line(6, "tools/call", HALF), 6, -32700),
        (_line("six", "tools/call", HALF), "six", -32700),
        (_line("\ud800", "tools/call", {}), None, -32700),
        (b'{"jsonrpc":"2.0","id":8,"method":"tools/list","params":{"x":"\xff"}}', 8, -32700),
        (b'{"jsonrpc":"2.0","id":9,"method":"tools/list","params":{"x":NaN}}', 9, -32700),
        (_line(5, "tools/list", [1]), 5, -32602),
        (_line(5, "tools/call", {"name": 5}), 5, -32602),
        (_line(3, 5, {}), 3, -32600),
        (_line(1.5, "tools/list", {}), None, -32600),
        (_line(True, "tools/list", {}), None, -32600),
        (_line(None, "tools/list", {}), None, -32600),
        (b'{"id":4,"method":"tools/list"}', 4, -32600),
        (b'{"jsonrpc":"2.0","id":4}', 4, -32600),
        (b"[" + _line(7, "tools/list", {}) + b"]", None, -32600),
        (b"5", None, -32600),
        (b"{", None, -32700),
        (b"\xff\x00", None, -32700),
        (b"[" * 90_000, None, -32600),
        (b"[" * 40_000, None, -32700),
        (_line(2, "tools/list", json.loads('{"a":' * 70 + "1" + "}" * 70)), None, -32600),
        (_line(2, "tools/list", {"x": "x" * 100_000}), None, -32600),
        (b"x" * 1_000_000, None, -32600),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
def test_what_is_no_request_is_answered_and_the_next_one_served(terminal: Terminal, line, request_id, code):
    terminal.write(line + b"\n")
    broken = terminal.answer()
    terminal.send("ping", id="next")
    assert (broken["jsonrpc"], broken["id"], broken["error"]["code"]) == ("2.0", request_id, code)
    assert "Traceback" not in broken["error"]["message"]
    assert terminal.answer() == {"jsonrpc": "2.0", "id": "next", "result": {}}


@pytest.mark.parametrize(
    "line", [b"", b"  \r", b'{"jsonrpc":"2.0","id":1,"result":5}', b'{"jsonrpc":"2.0","id":1,"error":5}']
)
def test_what_asks_nothing_is_not_answered(terminal: Terminal, line):
    terminal.write(line + b"\n")
    terminal.send("ping", id="next")
    assert terminal.answer() == {"jsonrpc": "2.0", "id": "next", "result": {}}


def test_messages_may_come_in_pieces_and_many_at_once(terminal: Terminal):
    whole = _line("pieces", "ping", {}) + b"\r\n"
    for position in range(0, len(whole), 7):
        terminal.write(whole[position : position + 7])
    assert terminal.answer()["id"] == "pieces"
    terminal.write(b"".join(_line(number, "ping", {}) + b"\n" for number in range(500)))
    assert {terminal.answer()["id"] for _ in range(500)} == set(range(500))


def test_the_first_line_may_be_broken_and_the_last_without_an_end(server: Server):
    terminal = Terminal(server.data_dir)
    terminal.write(b"{\n")
    assert terminal.answer()["error"]["code"] == -32700
    terminal.greet()
    terminal.write(b"{")
    code, rest = terminal.end()
    assert (code, json.loads(rest)["error"]["code"]) == (0, -32700)
    assert b"".join(terminal.errors) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_though_its_input_is_open(server: Server, number: int):
    terminal = Terminal(server.data_dir)
    terminal.greet()
    assert terminal.end(number) == (0, b"")
    assert b"".join(terminal.errors) == b""


def test_it_ends_when_nobody_reads_any_more(server: Server):
    ours, theirs = os.pipe()
    command = [MERCATO, "stdio", "--tenant", "demo", "--data-dir", str(server.data_dir)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        os.close(theirs)
        os.close(ours)
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(_line(1, "ping", {}) + b"\n")
        process.stdin.flush()
        assert process.wait(30) == 0
        assert process.stderr.read().decode() == ""


@pytest.fixture
def noisy(server: Server, tmp_path: Path) -> Iterator[dict[str, str]]:
    install(tmp_path, "noisy", NOISY)
    outside = {"PYTHONPATH": str(tmp_path)}
    enabled = run(server.data_dir, "category", "enable", "noisy", "--tenant", "demo", **outside)
    assert enabled.returncode == 0, enabled.stderr
    yield outside
    run(server.data_dir, "category", "disable", "noisy", "--tenant", "demo", **outside)


def test_stdout_is_the_protocols_alone(server: Server, noisy: dict[str, str]):
    terminal = Terminal(server.data_dir, **noisy)
    terminal.greet()
    terminal.send("tools/call", {"name": "make_noise"}, id=1)
    answer = terminal.answer()
    code, rest = terminal.end()
    assert (answer["id"], answer["result"]["structuredContent"]) == (1, {"text": "read ''"})
    assert (code, rest) == (0, b"")
    errors = b"".join(terminal.errors).decode()
    for noise in ("noise at import", "printed noise", "stays in the buffer", "written noise", "a child's noise"):
        assert noise in errors


def test_long_work_is_a_task_over_stdio_too_and_is_done_without_another_process(server: Server):
    terminal = Terminal(server.data_dir)
    envelope = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    }

    def ask(method: str, **params: Any) -> dict[str, Any]:
        terminal.send(method, {**params, "_meta": envelope}, id=method)
        answer = terminal.answer()
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    try:
        task = ask("tools/call", name="export_audit_log", arguments={"format": "csv"})
        assert task["resultType"] == "task"
        until = time.monotonic() + ANSWER_S
        while (shown := ask("tasks/get", taskId=task["taskId"]))["status"] == "working":
            assert time.monotonic() < until
        assert shown["status"] == "completed"
        links = [block for block in shown["result"]["content"] if block["type"] == "resource_link"]
        [content] = ask("resources/read", uri=links[0]["uri"])["contents"]
        assert content["text"].startswith("id,at,user_id")
    finally:
        assert terminal.end()[0] == 0
