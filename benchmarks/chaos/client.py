"""A client: sends requests through the proxy, judges what comes back, and repeats a write whose answer it lost."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.exchange import SILENCE_S, Cut, Event, Exchange, connected, request
from benchmarks.chaos.journal import Entry, Journal
from tests.conformance.proxy import Proxy

MOST_TRIES = 20
PAUSE_S = (0.1, 0.5)
DROPPED = 0.1
"""The share of writes with a key whose client does not wait for the answer."""
KEYED = 0.5
"""The share of writes that have a key."""
_KEY = "mercato/idempotency-key"


@dataclass(slots=True)
class Surroundings:
    """What all clients share. They live until `over`, and come to an end with what they have begun."""

    port: int
    proxy: Proxy
    journal: Journal
    over: float

    @property
    def is_over(self) -> bool:
        """Whether nothing new is to be begun."""
        return time.monotonic() >= self.over


class Client:
    """One client of one tenant. What kind it is, and so how it lives, is said by those made of this."""

    def __init__(self, around: Surroundings, name: str, tenant: str, key: str, chance: random.Random) -> None:
        self.around = around
        self.journal = around.journal
        self.name = name
        self.tenant = tenant
        self.chance = chance
        self._key = key
        self._last_id = 0
        self._writes = 0

    async def live(self) -> None:
        """Do what this kind of client does, until it is over."""
        raise NotImplementedError

    async def call(self, tool: str, arguments: dict[str, Any], meta: dict[str, Any], *, drops: bool) -> bool:
        """Call a tool; return whether its answer came."""
        raise NotImplementedError

    async def read(self) -> None:
        """Read something. An answer that was lost is not missed."""
        await self.call("read_note", {"text": f"{self.name}-{self._writes}"}, {}, drops=False)

    async def write(self) -> None:
        """Write something that nobody else writes, and repeat it until there is an answer."""
        self._writes += 1
        text = f"{self.name}-{self._writes}"
        meta = {_KEY: secrets.token_hex(8)} if self.chance.random() < KEYED else {}
        for _ in range(MOST_TRIES):
            drops = bool(meta) and self.chance.random() < DROPPED
            if await self.call("write_note", {"text": text}, meta, drops=drops):
                self.journal.written.setdefault(self.tenant, set()).add(text)
                return
            self.journal.happened["writes that were repeated"] += 1
            await self.pause()
        self.journal.violation("a write was never answered", text)

    async def pause(self) -> None:
        """Wait a moment."""
        await asyncio.sleep(self.chance.uniform(*PAUSE_S))

    def patience(self, *, drops: bool) -> asyncio.Timeout:
        """Return how long the client waits for an answer; one that drops it leaves at any moment of the call."""
        return asyncio.timeout(self.chance.uniform(0.01, 0.3) if drops else None)

    def next_id(self) -> int:
        """Return an id for a request, which no other of this client has."""
        self._last_id += 1
        return self._last_id

    @asynccontextmanager
    async def exchange(
        self, entry: Entry, method: str, headers: dict[str, str], message: dict[str, Any] | None = None
    ) -> AsyncIterator[Exchange]:
        """Send a request; note where the proxy sent it. Raises `Cut` or `Hung`, and from the block what that raises."""
        given = {
            "host": f"127.0.0.1:{self.around.port}",
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **headers,
        }
        async with connected(self.around.port) as (reader, writer):
            port = writer.get_extra_info("sockname")[1]
            try:
                writer.write(request(method, given, message))
                exchange = Exchange(reader)
                await exchange.begin()
                yield exchange
            finally:
                entry.replica = self.around.proxy.take_route(port)  # type: ignore[assignment]  # a protocol there

    def cut(self, entry: Entry, what: str) -> None:
        """Judge a connection that ended early: only its replica's death excuses it."""
        if entry.was_on_a_victim:
            entry.end("lost")
            self.journal.happened[f"{what}: cut by a kill"] += 1
            return
        entry.end("wrong")
        crashed = entry.replica is not None and entry.replica.has_crashed
        self.journal.violation(
            f"{what}: cut though its replica lived",
            f"{self.name}: " + ("no replica took it" if entry.replica is None else f"crashed: {crashed}"),
        )

    def hung(self, entry: Entry, what: str) -> None:
        """Judge an answer that did not go on."""
        entry.end("wrong")
        self.journal.violation(f"{what}: hung", f"{self.name}: nothing for {SILENCE_S} s")

    def wrong(self, entry: Entry, what: str, detail: Any) -> None:
        """Judge an answer that is not what it must be."""
        entry.end("wrong")
        self.journal.violation(f"{what}: refused", f"{self.name}: {detail}")

    def take_result(self, entry: Entry, message: dict[str, Any]) -> bool:
        """Judge the answer to a call; return whether it is a good one."""
        result = message.get("result")
        if not isinstance(result, dict) or result.get("isError"):
            self.wrong(entry, "a call", message)
            return False
        entry.end("answered")
        self.journal.happened["calls that were answered"] += 1
        self.journal.happened["of them, with the first answer of a repeated write"] += "mercato/replayed" in result.get(
            "_meta", {}
        )
        return True


async def answer_of(exchange: Exchange, request_id: int, last: list[str]) -> dict[str, Any]:
    """Return the message that answers a request, from JSON or from a stream; note in `last` how far that came.

    Raises `Cut` where the stream ends without it.
    """
    if not exchange.is_stream:
        return Event(data=(await exchange.body()).decode()).message()
    async for event in exchange.events():
        if event.id:
            last[:] = [event.id]
        if event.data:
            message = event.message()
            if message.get("id") == request_id and "method" not in message:
                return message
    raise Cut
