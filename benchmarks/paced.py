"""Calls at a steady pace, as a client in use makes them: how long each takes, and not how many there can be."""

from __future__ import annotations

import select
import time
from collections import deque
from dataclasses import dataclass, field

from benchmarks.load import STALL_S, Connection
from benchmarks.wire import FIRST_ID, Request, RowFailed

_CONNECTIONS = 8


@dataclass(slots=True)
class _Pace:
    """When calls are due. One that finds no free connection has waited since it was due: what is slow is counted."""

    every_s: float
    due_at: float
    end_at: float
    waiting_since: deque[float] = field(default_factory=deque)

    def advance(self, now: float) -> None:
        """Let what is due by now wait for a connection."""
        while self.due_at <= min(now, self.end_at):
            self.waiting_since.append(self.due_at)
            self.due_at += self.every_s

    def is_over(self) -> bool:
        """Whether nothing is due any more."""
        return self.due_at > self.end_at and not self.waiting_since


def run_paced(port: int, request: Request, *, per_second: int, seconds: float) -> list[float]:
    """Call so often in a second; return how many milliseconds each call took, the shortest first."""
    began = time.perf_counter()
    pace = _Pace(1 / per_second, began, began + seconds)
    poll, busy, latencies = select.epoll(), dict[int, Connection](), list[float]()
    idle = deque(Connection(port, request, FIRST_ID + number * 1_000_000) for number in range(_CONNECTIONS))
    every = tuple(idle)
    try:
        for connection in every:
            poll.register(connection.socket, select.EPOLLIN)
        while busy or not pace.is_over():
            now = time.perf_counter()
            pace.advance(now)
            while idle and pace.waiting_since:
                since = pace.waiting_since.popleft()
                connection = idle.popleft()
                connection.send()
                # The clock of `poll` counts in milliseconds: being late by less is not the server's doing.
                connection.sent_at = since if now - since > 2 * pace.every_s else connection.sent_at
                busy[connection.socket.fileno()] = connection
            _take_in(poll, busy, idle, latencies, pace)
    finally:
        for connection in every:
            connection.socket.close()
        poll.close()
    return sorted(latencies)


def _take_in(
    poll: select.epoll,
    busy: dict[int, Connection],
    idle: deque[Connection],
    latencies: list[float],
    pace: _Pace,
) -> None:
    """Read what has come, until the next call is due. Raises `RowFailed` if nothing comes for very long."""
    for descriptor, _ in poll.poll(max(0.0, pace.due_at - time.perf_counter())):
        connection = busy.get(descriptor)
        if connection is None:
            raise RowFailed("the server closed a connection that it had answered")
        if connection.receive():
            latencies.append((time.perf_counter() - connection.sent_at) * 1000)
            idle.append(busy.pop(descriptor))
    now = time.perf_counter()
    if any(now - connection.sent_at > STALL_S for connection in busy.values()):
        raise RowFailed(f"a call was not answered within {STALL_S} s")
