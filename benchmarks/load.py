"""The load: connections kept alive, one request at a time on each, every answer checked byte for byte.

The built-in generator is one thread over epoll and plain sockets. It costs about half of what the barest answer costs a
Python server, so the server, on a core of its own, is what limits a run; its own CPU time per request stands beside
each row, to show that this held. `wrk` costs less still and is taken on request, but looks at the status only.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.wire import FIRST_ID, Answered, Request, RowFailed, check_answer

STALL_S = 60
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run came to. Latencies are in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    load_cpu_s: float


def ask(port: int, request: Request, request_id: int = FIRST_ID, timeout_s: float = STALL_S) -> Answered:
    """Send one request on a connection of its own and return the answer, whatever it is."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(request.render(request_id))
        data = b""
        while (found := _complete(data)) is None:
            if not (more := connection.recv(262_144)):
                raise RowFailed("the server closed the connection before it had answered")
            data += more
    head, body = found
    return Answered(int(data[9:12]), head, body)


class _Connection:
    """One connection, its request, and what an answer must look like but for its id."""

    __slots__ = ("data", "expected", "request", "request_id", "sent_at", "socket")

    def __init__(self, port: int, request: Request, first_id: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.request = request
        self.request_id = first_id
        self.data = b""
        self.expected: tuple[bytes, bytes] | None = None
        self.sent_at = 0.0

    def send(self) -> None:
        self.request_id += 1
        message = self.request.render(self.request_id)
        self.sent_at = time.perf_counter()
        if self.socket.send(message) != len(message):
            raise RowFailed("the server does not take requests as fast as they are sent")

    def receive(self) -> bool:
        """Read what is there; return whether an answer is complete. Raises `RowFailed` for one that is not good."""
        more = self.socket.recv(262_144)
        if not more:
            raise RowFailed("the server closed a connection")
        self.data = self.data + more if self.data else more
        found = _complete(self.data)
        if found is None:
            return False
        self._check(*found)
        self.data = b""
        return True

    def _check(self, head: bytes, body: bytes) -> None:
        if self.expected is None:
            check_answer(Answered(int(head[9:12]), head, body), self.request_id)
            before, _, after = body.partition(str(self.request_id).encode())
            self.expected = before, after
            return
        before, after = self.expected
        same = head.startswith(b"HTTP/1.1 200 ") and body.startswith(before) and body.endswith(after)
        if not same or len(body) != len(before) + 9 + len(after):
            raise RowFailed(f"an answer differs from the first: {head[:40]!r} {body[:300]!r}")


def run_builtin(
    port: int, requests: list[Request], *, warm_s: float, seconds: float, mark: Callable[[], None]
) -> Measured:
    """Keep one connection busy for each request; call `mark` when the measurement begins and when it ends."""
    connections = {}
    poll = select.epoll()
    try:
        for number, request in enumerate(requests):
            connection = _Connection(port, request, FIRST_ID + number * 10_000_000)
            connections[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN)
        for connection in connections.values():
            connection.send()
        _drive(poll, connections, warm_s)
        mark()
        cpu_s, began = time.process_time(), time.perf_counter()
        latencies = _drive(poll, connections, seconds)
        took, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        mark()
    finally:
        for connection in connections.values():
            connection.socket.close()
        poll.close()
    if not latencies:
        raise RowFailed(f"nothing was answered within {seconds:g} s")
    ordered = sorted(latencies)
    return Measured(len(ordered), took, _quantile(ordered, 0.5), _quantile(ordered, 0.99), cpu_s)


def _drive(poll: select.epoll, connections: dict[int, _Connection], seconds: float) -> array[float]:
    """Send and receive until the time is over; return how long each answer took."""
    latencies = array("d")
    end = time.perf_counter() + seconds
    last = time.perf_counter()
    while (now := time.perf_counter()) < end:
        events = poll.poll(min(end - now, 1))
        if events:
            last = now
        elif now - last > STALL_S:
            raise RowFailed(f"nothing was answered for {STALL_S} s")
        for descriptor, _ in events:
            connection = connections[descriptor]
            if connection.receive():
                latencies.append((time.perf_counter() - connection.sent_at) * 1000)
                connection.send()
    return latencies


def _complete(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the head and the body of an answer, or None while it is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, begin = data[: end + 2], end + 4
    if (declared := _LENGTH.search(head)) is not None:
        length = int(declared[1])
        return (head, data[begin:]) if len(data) - begin >= length else None
    if _CHUNKED.search(head) is None:
        raise RowFailed(f"an answer says nothing of its length: {head[:200]!r}")
    return (head, _joined(data[begin:])) if data.endswith(b"\r\n0\r\n\r\n") else None


def _joined(chunks: bytes) -> bytes:
    body, at = b"", 0
    while True:
        line = chunks.index(b"\r\n", at)
        size = int(chunks[at:line], 16)
        if size == 0:
            return body
        body += chunks[line + 2 : line + 2 + size]
        at = line + 4 + size


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def run_wrk(port: int, requests: list[Request], *, warm_s: float, seconds: float, mark: Callable[[], None]) -> Measured:
    """Do the same with `wrk`, which takes whole seconds and checks the status of each answer, not its body."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "requests.json.lua"
        script.write_text(_lua(requests))
        _wrk(port, len(requests), script, max(1, round(warm_s)))
        mark()
        cpu_s = os.times().children_user + os.times().children_system
        report = _wrk(port, len(requests), script, max(1, round(seconds)))
        cpu_s = os.times().children_user + os.times().children_system - cpu_s
        mark()
    if report["errors"]:
        raise RowFailed(f"wrk counted {report['errors']} errors")
    return Measured(report["requests"], report["seconds"], report["p50_ms"], report["p99_ms"], cpu_s)


def _wrk(port: int, connections: int, script: Path, seconds: int) -> dict[str, Any]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{STALL_S}s", "-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/mcp"], capture_output=True, text=True, timeout=seconds + 2 * STALL_S
    )
    for line in done.stdout.splitlines():
        if line.startswith('{"requests"'):
            report: dict[str, Any] = json.loads(line)
            return report
    raise RowFailed(f"wrk said nothing that could be read: {done.stderr[:300]}")


def _lua(requests: list[Request]) -> str:
    """Return the script: raw requests in rotation, each with an id of its own, and a report as one line of JSON."""
    parts = ",\n".join(f"{{{_quoted(request.before_id)}, {_quoted(request.after_id)}}}" for request in requests)
    return f"""
local parts = {{{parts}}}
local turn, id = 0, {FIRST_ID}
request = function()
  turn = turn % #parts + 1
  id = id + 1
  return parts[turn][1] .. id .. parts[turn][2]
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d}}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def _quoted(data: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'
