"""Streams that stay open and say nothing after their first event: bare ASGI, and sse-starlette."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import Any

import anyio
from sse_starlette import EventSourceResponse
from starlette.requests import Request

from benchmarks.servers.serving import serve

_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
_EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}\r\n\r\n'


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Send one event and wait until the client leaves: the least that uvicorn can hold open."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _EVENT, "more_body": True})
    await receive()


async def starlette(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Do the same by an `EventSourceResponse`, which sends pings."""
    await Request(scope, receive).body()

    async def events() -> AsyncIterator[dict[str, str]]:
        yield {"data": "{}"}
        await anyio.sleep_forever()

    await EventSourceResponse(events())(scope, receive, send)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("bare", "sse-starlette"), required=True)
    options = parser.parse_args()
    serve(bare if options.kind == "bare" else starlette, lifespan="off")
