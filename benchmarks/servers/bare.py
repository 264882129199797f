"""The least that uvicorn can do: 300 bytes for any request. What is above this is a server's own work."""

from __future__ import annotations

from typing import Any

from benchmarks.servers.serving import serve

_PADDING = b"." * 250
_HEADERS = [(b"content-type", b"application/json")]


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with a result of 300 bytes that carries the id of the request."""
    message = await receive()
    body = message["body"]
    at = body.index(b'"id":') + 5
    answer = b'{"jsonrpc":"2.0","id":' + body[at : at + 9] + b',"result":{"a":"' + _PADDING + b'"}}'
    headers = [*_HEADERS, (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    serve(bare, lifespan="off")
