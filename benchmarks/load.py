"""The load: connections kept alive, one request at a time on each, every answer checked byte for byte.

This generator is one thread over epoll and plain sockets. It costs about half of what the barest answer costs a Python
server, so the server, on a core of its own, is what limits a run; its own CPU time per request is noted, to show that
this held. `wrk` (see `wrk.py`) costs less still and is the usual load; this one then checks each server beforehand.
"""

from __future__ import annotations

import re
import select
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.wire import FIRST_ID, Answered, Request, RowFailed, check_answer

STALL_S = 60
_IDS_EACH = 3_000_000
"""Connections count from numbers of their own: no id comes twice in a session, and all have nine digits."""
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
    return Answered(int(data[9:12]), head, body, len(data))


class Connection:
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
            check_answer(Answered(int(head[9:12]), head, body, len(self.data)), self.request_id)
            before, _, after = body.partition(str(self.request_id).encode())
            self.expected = before, after
            return
        before, after = self.expected
        same = head.startswith(b"HTTP/1.1 200 ") and body.startswith(before) and body.endswith(after)
        if not same or len(body) != len(before) + 9 + len(after):
            raise RowFailed(f"an answer differs from the first: {head[:40]!r} {body[:300]!r}")


def check_each(port: int, requests: list[Request], times: int) -> float:
    """Ask so often on each connection, and wait for every answer; return how many there were in a second.

    Raises `RowFailed` if an answer differs from the first of its connection.
    """
    began = time.perf_counter()
    with _connected(port, requests) as (poll, connections):
        left = dict.fromkeys(connections, times)
        while left:
            for descriptor in _waited(poll, STALL_S):
                if connections[descriptor].receive():
                    left[descriptor] -= 1
                    if left[descriptor]:
                        connections[descriptor].send()
                    else:
                        poll.unregister(descriptor)  # servers close who says nothing for long
                        del left[descriptor]
    return len(requests) * times / (time.perf_counter() - began)


def run_builtin(
    port: int, requests: list[Request], *, warm_s: float, seconds: float, mark: Callable[[], None]
) -> Measured:
    """Keep one connection busy for each request; call `mark` when the measurement begins and when it ends."""
    with _connected(port, requests) as (poll, connections):
        _drive(poll, connections, warm_s)
        mark()
        cpu_s, began = time.process_time(), time.perf_counter()
        latencies = _drive(poll, connections, seconds)
        took, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        mark()
    if not latencies:
        raise RowFailed(f"nothing was answered within {seconds:g} s")
    ordered = sorted(latencies)
    return Measured(len(ordered), took, _quantile(ordered, 0.5), _quantile(ordered, 0.99), cpu_s)


@contextmanager
def _connected(port: int, requests: list[Request]) -> Iterator[tuple[select.epoll, dict[int, Connection]]]:
    """Open a connection for each request, and send it."""
    connections = {}
    poll = select.epoll()
    try:
        for number, request in enumerate(requests):
            connection = Connection(port, request, FIRST_ID + number * _IDS_EACH)
            connections[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN)
        for connection in connections.values():
            connection.send()
        yield poll, connections
    finally:
        for connection in connections.values():
            connection.socket.close()
        poll.close()


def _drive(poll: select.epoll, connections: dict[int, Connection], seconds: float) -> array[float]:
    """Send and receive until the time is over; return how long each answer took."""
    latencies = array("d")
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        for descriptor in _waited(poll, min(left, STALL_S)):
            connection = connections[descriptor]
            if connection.receive():
                latencies.append((time.perf_counter() - connection.sent_at) * 1000)
                connection.send()
    return latencies


def _waited(poll: select.epoll, seconds: float) -> list[int]:
    """Return the connections that can be read. Raises `RowFailed` when none could for very long."""
    found = [descriptor for descriptor, _ in poll.poll(seconds)]
    if not found and seconds >= STALL_S:
        raise RowFailed(f"nothing was answered for {STALL_S} s")
    return found


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
