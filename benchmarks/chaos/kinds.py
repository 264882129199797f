"""The kinds of clients: with a session, without, and those that only listen."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from benchmarks.chaos.client import MOST_TRIES, Client, Surroundings, answer_of
from benchmarks.chaos.exchange import Cut, Event, Exchange, Hung
from benchmarks.chaos.journal import Entry
from benchmarks.wire import HANDSHAKE, MODERN

NOTES = "chaos://notes"
_CLIENT = {"name": "chaos", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}
_RETRY_S = (0.05, 0.5)
_LOST = "was lost"


def written(tool: str, arguments: dict[str, Any]) -> str:
    """Return the note that a call writes, if it is one that does."""
    return str(arguments["text"]) if tool == "write_note" else ""


class ModernClient(Client):
    """Calls without a session: 2026-07-28."""

    async def live(self) -> None:
        """Read and write."""
        while not self.around.is_over:
            await (self.read() if self.chance.random() < 0.6 else self.write())
            await self.pause()

    async def call(self, tool: str, arguments: dict[str, Any], meta: dict[str, Any], *, drops: bool) -> bool:
        """Call a tool; return whether its answer came."""
        entry, request_id = self.journal.begin("call", self.tenant, written(tool, arguments)), self.next_id()
        headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": tool}
        params = {"name": tool, "arguments": arguments, "_meta": {**_META, **meta}}
        message = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
        try:
            async with self.patience(drops=drops), self.exchange(entry, "POST", headers, message) as exchange:
                if exchange.status == 200:
                    return self.take_result(entry, await answer_of(exchange, request_id, []))
                self.wrong(entry, "a call", f"HTTP {exchange.status} {await exchange.body()!r}")
        except TimeoutError:
            entry.end("dropped")
        except Cut:
            self.cut(entry, "a call")
        except Hung:
            self.hung(entry, "a call")
        return False


class Listener(ModernClient):
    """Listens without a session, and reads now and then."""

    async def live(self) -> None:
        """Keep a stream open."""
        listening = asyncio.create_task(self._listen())
        while not self.around.is_over:
            await self.read()
            await asyncio.sleep(self.chance.uniform(1, 3))
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            entry = self.journal.begin("stream", self.tenant)
            try:
                await self._listen_once(entry)
            except Cut:
                self.cut(entry, "a listen stream")
            except Hung:
                self.hung(entry, "a listen stream")
            await asyncio.sleep(self.chance.uniform(*_RETRY_S))

    async def _listen_once(self, entry: Entry) -> None:
        wanted = {"toolsListChanged": True, "resourceSubscriptions": [NOTES]}
        method = "subscriptions/listen"
        message = {"jsonrpc": "2.0", "id": self.next_id(), "method": method}
        message["params"] = {"notifications": wanted, "_meta": _META}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        async with self.exchange(entry, "POST", headers, message) as exchange:
            if exchange.status != 200:
                self.wrong(entry, "a listen stream", f"HTTP {exchange.status}")
                return
            self.journal.happened["streams that were opened"] += 1
            async for event in exchange.events():
                self.journal.happened["events on listen streams"] += bool(event.data)
        self.wrong(entry, "a listen stream", "it was ended, though nobody ends anything")


class LegacyClient(Client):
    """Has a session, its stream, and calls that tell how far they are: 2025-11-25."""

    def __init__(self, around: Surroundings, name: str, tenant: str, key: str, chance: random.Random) -> None:
        super().__init__(around, name, tenant, key, chance)
        self._session = ""
        self._seen: int | None = None

    async def live(self) -> None:
        """Begin a session, keep its stream open, and read, write and count in it."""
        if not await self._shake_hands():
            return
        listening = asyncio.create_task(self._listen())
        while not self.around.is_over:
            dice = self.chance.random()
            await (self.read() if dice < 0.45 else self.write() if dice < 0.75 else self._count())
            await self.pause()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    async def call(self, tool: str, arguments: dict[str, Any], meta: dict[str, Any], *, drops: bool) -> bool:
        """Call a tool; return whether its answer came, on this connection or another."""
        entry = self.journal.begin("call", self.tenant, written(tool, arguments))
        last, request_id = list[str](), self.next_id()
        params = {"name": tool, "arguments": arguments, **({"_meta": meta} if meta else {})}
        message = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
        try:
            async with self.patience(drops=drops), self.exchange(entry, "POST", self._headers(), message) as exchange:
                if exchange.status == 200:
                    return self.take_result(entry, await answer_of(exchange, request_id, last))
                self.wrong(entry, "a call", f"HTTP {exchange.status} {await exchange.body()!r}")
        except TimeoutError:
            entry.end("dropped")
        except Cut:
            self.cut(entry, "a call")
            if last and entry.outcome == "lost":
                return await self._resume(entry, request_id, last)
        except Hung:
            self.hung(entry, "a call")
        return False

    async def _count(self) -> None:
        await self.call("count_steps", {}, {"progressToken": f"{self.name}-{self._last_id}"}, drops=False)

    async def _resume(self, call: Entry, request_id: int, last: list[str]) -> bool:
        """Come back for the rest of a stream; it must end with the answer, or with the word that it is lost."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_RETRY_S))
            entry = self.journal.begin("resumption", self.tenant)
            try:
                async with self.exchange(entry, "GET", self._headers(last[0])) as exchange:
                    if exchange.status != 200:
                        self.wrong(entry, "a resumption", f"HTTP {exchange.status} {await exchange.body()!r}")
                        return False
                    message = await answer_of(exchange, request_id, last)
            except Cut:
                self.cut(entry, "a resumption")
                if entry.outcome == "wrong":
                    return False
                continue
            except Hung:
                self.hung(entry, "a resumption")
                return False
            entry.end("answered")
            if _LOST in str(message.get("error")):
                self.journal.happened["calls that are said to be lost"] += 1
                return False
            self.journal.happened["calls that were answered after all"] += 1
            return self.take_result(call, message)

    async def _shake_hands(self) -> bool:
        """Begin a session, and ask in it to be told of changes."""
        params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT}
        done = await self._post_until_taken({"id": self.next_id(), "method": "initialize", "params": params})
        self._session = done.get("mcp-session-id", "")
        await self._post_until_taken({"method": "notifications/initialized"})
        subscribe = {"method": "resources/subscribe", "params": {"uri": NOTES}}
        await self._post_until_taken({"id": self.next_id(), **subscribe})
        return bool(self._session)

    async def _post_until_taken(self, message: dict[str, Any]) -> dict[str, str]:
        for _ in range(MOST_TRIES):
            if (done := await self._post(message)) is not None:
                return done
            await self.pause()
        self.journal.violation("a handshake was never answered", self.name)
        return {}

    async def _post(self, message: dict[str, Any]) -> dict[str, str] | None:
        """Send what is no call; return the headers of the answer, or None where its replica was killed."""
        entry, what = self.journal.begin("handshake", self.tenant), str(message["method"])
        try:
            async with self.exchange(entry, "POST", self._headers(), {"jsonrpc": "2.0", **message}) as exchange:
                body = await exchange.body()
                if exchange.status not in (200, 202) or b'"error"' in body:
                    self.wrong(entry, what, f"HTTP {exchange.status} {body!r}")
                else:
                    entry.end("answered")
                return exchange.headers
        except Cut:
            self.cut(entry, what)
        except Hung:
            self.hung(entry, what)
        return None

    async def _listen(self) -> None:
        while True:
            entry = self.journal.begin("stream", self.tenant)
            last = None if self._seen is None else f"g_{self._seen}"
            try:
                async with self.exchange(entry, "GET", self._headers(last)) as exchange:
                    await self._take_events(entry, exchange)
            except Cut:
                self.cut(entry, "a session's stream")
            except Hung:
                self.hung(entry, "a session's stream")
            await asyncio.sleep(self.chance.uniform(*_RETRY_S))

    async def _take_events(self, entry: Entry, exchange: Exchange) -> None:
        if exchange.status != 200:
            self.wrong(entry, "a session's stream", f"HTTP {exchange.status} {await exchange.body()!r}")
            return
        self.journal.happened["streams that were opened"] += 1
        async for event in exchange.events():
            if event.id:
                self._take_event(event)
        self.wrong(entry, "a session's stream", "it was ended, though nobody ends anything")

    def _take_event(self, event: Event) -> None:
        """See to it that events come in their order, each once, over all the connections."""
        number = int(event.id.removeprefix("g_"))
        if self._seen is not None and number != self._seen + 1:
            self.journal.violation("an event was left out or came twice", f"{self.name}: {number} after {self._seen}")
        self._seen = number
        self.journal.happened["events on sessions' streams"] += 1

    def _headers(self, last: str | None = None) -> dict[str, str]:
        given = {"mcp-protocol-version": HANDSHAKE} if self._session else {}
        session = {"mcp-session-id": self._session} if self._session else {}
        return {**given, **session, **({"last-event-id": last} if last else {})}
