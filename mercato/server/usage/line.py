"""A connection to Redis on which nothing is awaited."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any

from redis import ConnectionPool
from redis.exceptions import RedisError

_TIMEOUT_S = 2


class Line:
    """Sends commands whose replies nobody reads. What `send` took is out of this process: a kill does not lose it.

    It promises no more than that: Redis may be gone, or refuse. Whoever uses it must be able to say the same again.
    """

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S)
        self._connection: Any = None
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Connect. Raises `RedisError` or `OSError`."""
        self.close()
        self._connection = await asyncio.to_thread(self._connect)
        self._socket = self._connection._sock
        self._socket.setblocking(False)

    def _connect(self) -> Any:
        """Let the library do what the URL asks for: a socket's path, TLS, a password, a database."""
        connection: Any = self._pool.make_connection()
        try:
            connection.connect()
            connection.send_command("CLIENT", "REPLY", "OFF")
        except (RedisError, OSError):
            connection.disconnect()
            raise
        return connection

    def send(self, commands: bytes) -> None:
        """Hand commands to the kernel. A connection that does not take them all at once is given up."""
        if self._socket is None:
            return
        try:
            sent = self._socket.send(commands)
        except OSError:  # closed, full, or TLS that must wait
            sent = 0
        if sent < len(commands):
            self.close()

    def is_open(self) -> bool:
        """Whether the other end is still there. Reads away what a server said that does not keep silent."""
        try:
            while self._socket is not None:
                if not self._socket.recv(65_536):
                    self.close()
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return True
        except OSError:
            self.close()
        return False

    def close(self) -> None:
        """Close the connection, if it is open."""
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            with suppress(RedisError, OSError):
                connection.disconnect()
