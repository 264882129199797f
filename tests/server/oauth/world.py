"""Everything outside, as one answer: for what reads documents at addresses that strangers choose."""

from __future__ import annotations

import httpx
import orjson

PUBLIC = "93.184.216.34"


class World(httpx.AsyncBaseTransport):
    """Everything outside: one answer for whatever is asked, and names that stand for the addresses given."""

    def __init__(self):
        self.requests: list[httpx.Request] = []
        self.answer = httpx.Response(500)
        self.addresses = [PUBLIC]
        self.resolved = 0

    async def resolve(self, host, port):
        self.resolved += 1
        if isinstance(self.addresses, Exception):
            raise self.addresses
        return self.addresses

    async def handle_async_request(self, request):
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def publishes(self, document, **headers):
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        self.answer = httpx.Response(200, content=body, headers=headers)
