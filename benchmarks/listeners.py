"""Clients that open a stream each and wait: plain sockets in one thread, a limited number on their way at a time."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Iterable
from types import TracebackType

from benchmarks.wire import FIRST_ID, Request, RowFailed

_AT_A_TIME = 32
_PATIENCE_S = 30.0
_FIRST_EVENT = b"data:"


def allow_files(count: int) -> None:
    """Raise this process's limit of open files, which whatever it starts inherits. Raises `RuntimeError`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise RuntimeError(f"{count:,} files must be open at once, and {hard:,} may: raise `ulimit -Hn`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


class Listeners:
    """Open streams. Entering opens them all and waits for the first event of each; leaving closes them."""

    def __init__(self, port: int, requests: Iterable[Request]) -> None:
        self._port = port
        self._requests = enumerate(requests, FIRST_ID)
        self._begun: dict[int, bytes] = {}
        self._open: dict[int, socket.socket] = {}
        self._poll = select.epoll()

    def __enter__(self) -> Listeners:
        try:
            while self._fill() or self._begun:
                self._take_in()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hold(self, seconds: float) -> None:
        """Keep them open, reading what comes. Raises `RowFailed` if the server ends one."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for descriptor, _ in self._poll.poll(left):
                if not self._open[descriptor].recv(65_536):
                    raise RowFailed("the server ended a stream")

    def close(self) -> None:
        """Close them all."""
        for one in self._open.values():
            one.close()
        self._open.clear()
        self._poll.close()

    def _fill(self) -> bool:
        """Begin streams until enough are on their way; return whether any was begun."""
        any_begun = False
        while len(self._begun) < _AT_A_TIME and (following := next(self._requests, None)) is not None:
            request_id, request = following
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE_S)
            connection.sendall(request.render(request_id))
            self._open[connection.fileno()] = connection
            self._begun[connection.fileno()] = b""
            self._poll.register(connection, select.EPOLLIN)
            any_begun = True
        return any_begun

    def _take_in(self) -> None:
        events = self._poll.poll(_PATIENCE_S)
        if not events:
            raise RowFailed(f"a stream did not begin within {_PATIENCE_S:g} s")
        for descriptor, _ in events:
            data = self._open[descriptor].recv(65_536)
            if descriptor not in self._begun:
                if not data:
                    raise RowFailed("the server ended a stream")
                continue
            begun = self._begun[descriptor] + data
            if not begun.startswith(b"HTTP/1.1 200 "[: len(begun)]) or not data:
                raise RowFailed(f"a stream was not opened: {begun[:300]!r}")
            if _FIRST_EVENT in begun:
                del self._begun[descriptor]
            else:
                self._begun[descriptor] = begun
