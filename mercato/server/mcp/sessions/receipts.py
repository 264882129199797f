"""Receipts: whether an answer that another replica writes was handed to an open connection."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from mercato.server.mcp.sessions import names
from mercato.server.mcp.sessions.background import Background
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.store import Store
from mercato.server.mcp.sessions.writer import Writer

NO_RECEIPT = "-"


class Receipts:
    """Asks for receipts, waits for them and gives them. One that does not come means: not delivered."""

    def __init__(self, store: Store, background: Background, bounds: Bounds, replica: str) -> None:
        self._store = store
        self._background = background
        self._bounds = bounds
        self._replica = replica
        self._expected: dict[str, asyncio.Future[bool]] = {}

    @contextmanager
    def asked_for(self) -> Iterator[str]:
        """Expect a receipt for as long as a block lasts; yield what asks for it."""
        token = secrets.token_hex(8)
        self._expected[token] = asyncio.get_running_loop().create_future()
        try:
            yield f"{self._replica}:{token}"
        finally:
            del self._expected[token]

    async def wait(self, asked: str) -> bool:
        """Return whether the answer was delivered, as far as is known in time."""
        try:
            async with asyncio.timeout(self._bounds.redis_s):
                return await self._expected[asked.partition(":")[2]]
        except TimeoutError:
            return False

    def give(self, writer: Writer, asked: str) -> None:
        """Say what became of an answer that this replica writes, once it is written."""
        replica, _, token = asked.partition(":")
        if token and replica != self._replica:
            self._background.start(self._give(writer, replica, token))

    def heard(self, token: str, *, delivered: bool) -> None:
        """Take in a receipt."""
        expected = self._expected.get(token)
        if expected is not None and not expected.done():
            expected.set_result(delivered)

    async def _give(self, writer: Writer, replica: str, token: str) -> None:
        delivered = await writer.flushed()
        async with self._store.answering() as redis:
            message = f"received {writer.session.id} {token} {int(delivered)}"
            await redis.publish(names.replica_channel(replica), message)
