"""A client of the handshake era that is as plain as can be: each request goes to the replica that the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import orjson

from tests.server.conftest import HELLO, Site

ASKS = {**HELLO, "capabilities": {"elicitation": {}, "sampling": {}, "roots": {}}}


@dataclass
class Event:
    """One server-sent event, or the comment that kept a stream alive."""

    id: str | None = None
    retry: str | None = None
    kind: str = "message"
    data: str = ""
    comment: str | None = None

    @property
    def message(self) -> dict[str, Any]:
        read: dict[str, Any] = orjson.loads(self.data)
        return read


class Stream:
    """An open stream: its events, one after the other."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> Event:
        event, begun = Event(), False
        with anyio.fail_after(10):
            async for line in self._lines:
                if not line:
                    if begun:
                        return event
                    continue
                begun = True
                _take(event, line)
        raise EOFError("the stream has ended")

    async def message(self) -> dict[str, Any]:
        """Return the next message, whatever else comes before it."""
        while True:
            event = await self.next()
            if event.data and event.kind == "message":
                return event.message

    async def rest(self) -> list[Event]:
        """Return what comes until the end."""
        events = []
        try:
            while True:
                events.append(await self.next())
        except EOFError:
            return events


def _take(event: Event, line: str) -> None:
    name, _, value = line.partition(":")
    value = value.removeprefix(" ")
    if name == "":
        event.comment = value
    elif name == "event":
        event.kind = value
    else:
        setattr(event, name, value)


@dataclass
class McpClient:
    """One session, whose requests may go to any of several replicas."""

    key: str
    session_id: str = ""
    _clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    def at(self, site: Site) -> httpx.AsyncClient:
        if site.url not in self._clients:
            self._clients[site.url] = site.client(self.key)
        client = self._clients[site.url]
        if self.session_id:
            client.headers["mcp-session-id"] = self.session_id
        return client

    async def initialize(self, site: Site, hello: dict[str, Any] | None = None) -> httpx.Response:
        self.session_id = ""
        response = await self.at(site).post("/mcp", json=request("initialize", hello or ASKS, 0))
        self.session_id = response.headers.get("mcp-session-id", "")
        return response

    async def open(self, site: Site, hello: dict[str, Any] | None = None) -> McpClient:
        await self.initialize(site, hello)
        assert (await self.notify(site, "notifications/initialized")).status_code == 202
        return self

    async def post(self, site: Site, body: dict[str, Any]) -> httpx.Response:
        return await self.at(site).post("/mcp", json=body)

    async def ask(self, site: Site, method: str, params: Any = None, request_id: Any = 1) -> httpx.Response:
        return await self.post(site, request(method, params, request_id))

    async def call(self, site: Site, name: str, request_id: Any = 1, **arguments: Any) -> httpx.Response:
        return await self.ask(site, "tools/call", {"name": name, "arguments": arguments}, request_id)

    async def notify(self, site: Site, method: str, params: Any = None) -> httpx.Response:
        given = {} if params is None else {"params": params}
        return await self.post(site, {"jsonrpc": "2.0", "method": method, **given})

    @asynccontextmanager
    async def streamed(self, site: Site, body: dict[str, Any]) -> AsyncIterator[Stream]:
        """A POST whose answer is read as it comes."""
        async with self.at(site).stream("POST", "/mcp", json=body) as response:
            yield Stream(response)

    @asynccontextmanager
    async def listening(self, site: Site, after: str | None = None) -> AsyncIterator[Stream]:
        """A GET: the session's own stream, or the rest of the one that an event belongs to."""
        headers = {"last-event-id": after} if after else {}
        async with self.at(site).stream("GET", "/mcp", headers=headers) as response:
            yield Stream(response)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def request(method: str, params: Any = None, request_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, **({} if params is None else {"params": params})}


def call(name: str, request_id: Any = 1, *, token: str | None = None, **arguments: Any) -> dict[str, Any]:
    meta = {"_meta": {"progressToken": token}} if token else {}
    return request("tools/call", {"name": name, "arguments": arguments, **meta}, request_id)
