"""The ceiling of a tool that reads one row: plain ASGI, and one statement on a pool of asyncpg. Nothing else at all.

Nobody is authenticated, nothing is limited, logged or counted, and no transaction sets a tenant: the server reads as
the superuser, for whom row-level security does not hold, from the same table as mercato, by tenant and id. It reads
what a request of 2026-07-28 says and checks what it calls. What mercato costs above this is what mercato does.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import asyncpg
import orjson

from benchmarks.servers.serving import serve
from benchmarks.wire import MODERN

TOOL = "read_bench_order"
_SELECT = "SELECT id, number, currency, total_minor FROM bench.orders WHERE tenant_id = $1 AND id = $2"
_META = b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fastpath","version":"1"}}'
_VERSION, _CAPABILITIES = (f"io.modelcontextprotocol/{name}" for name in ("protocolVersion", "clientCapabilities"))
Message = MutableMapping[str, Any]


class Refused(Exception):
    """The request is not one that is answered here."""


class FastPath:
    """The application. Its pool is opened with the first request, in the loop that serves it."""

    def __init__(self, database: dict[str, str], tenant_id: int) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._pool: asyncpg.Pool | None = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        try:
            request = _checked(scope, orjson.loads(await _body(receive)))
            status, body = 200, await self._answered(request)
        except (Refused, ValueError, KeyError) as error:
            status, body = 400, orjson.dumps({"jsonrpc": "2.0", "id": None, "error": {"message": str(error)}})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, request: dict[str, Any]) -> bytes:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(**self._database, min_size=8, max_size=8)
        row = await self._pool.fetchrow(_SELECT, self._tenant_id, request["params"]["arguments"]["order_id"])
        if row is None:
            raise Refused("there is no such order")
        structured = orjson.dumps(dict(row))
        text = orjson.dumps(structured.decode())
        result = b'{"content":[{"type":"text","text":%b}],"structuredContent":%b,"isError":false,' % (text, structured)
        end = b'"resultType":"complete",%b}}' % _META
        return b'{"jsonrpc":"2.0","id":%b,"result":%b%b' % (orjson.dumps(request["id"]), result, end)


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    return body


def _checked(scope: Message, request: dict[str, Any]) -> dict[str, Any]:
    """Return the request if it is what its headers say, and of the tool."""
    headers = dict(scope["headers"])
    params = request["params"]
    meta = params["_meta"]
    named = (headers[b"mcp-method"].decode(), headers[b"mcp-name"].decode(), headers[b"mcp-protocol-version"].decode())
    if named != (request["method"], params["name"], meta[_VERSION]) or type(meta[_CAPABILITIES]) is not dict:
        raise Refused("the headers say something else than the body")
    if named != ("tools/call", TOOL, MODERN) or type(params["arguments"]["order_id"]) is not int:
        raise Refused("only one tool of one version is here")
    return request


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--tenant-id", type=int, required=True)
    options = parser.parse_args()
    serve(FastPath({"dsn": options.dsn, "database": options.database}, options.tenant_id), lifespan="off")
