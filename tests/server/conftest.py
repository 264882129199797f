from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import httpx
import orjson
import pytest
from starlette.applications import Starlette

from mercato.plugins.manager import discover
from mercato.server.app import create_app
from mercato.server.http import HttpServer
from mercato.server.runtime import Runtime
from mercato.server.settings import Settings
from mercato.tenancy.keys import EVERY_SCOPE, create_key
from mercato.tenancy.onboarding import find_owner
from mercato.tenancy.tenants import Tenant
from tests.server import probe

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
}


@dataclass
class Site:
    """A server that listens on loopback, with the probe plugin."""

    url: str
    app: Starlette

    @property
    def runtime(self) -> Runtime:
        opened: Runtime = self.app.state.runtime
        return opened

    async def key(self, tenant: Tenant, scopes: list[str] | None = None, **options: Any) -> str:
        """Make an API key of the tenant's owner."""
        owner = await find_owner(self.runtime.database, tenant)
        async with self.runtime.database.tenant(tenant.id) as db:
            _, key = await create_key(db, owner, "test", scopes or [EVERY_SCOPE], options.get("expires_at"))
        return key

    def client(self, key: str | None, **headers: str) -> httpx.AsyncClient:
        """Return a plain HTTP client that sends what MCP clients send."""
        given = {"accept": "application/json, text/event-stream", "content-type": "application/json", **headers}
        if key is not None:
            given["authorization"] = f"Bearer {key}"
        return httpx.AsyncClient(base_url=self.url, headers=given, timeout=20, verify=False)  # plain http


@asynccontextmanager
async def listening(make: Callable[[int], Starlette]) -> AsyncIterator[Site]:
    """Serve the application that `make` makes for a free port, inside this event loop."""
    import asyncio
    import socket

    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    app = make(bound.getsockname()[1])
    server = HttpServer(app, max_wait_s=2)
    async with app.router.lifespan_context(app):
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        with anyio.fail_after(30):
            await server.until_started(serving)
        try:
            yield Site(f"http://127.0.0.1:{bound.getsockname()[1]}", app)
        finally:
            server.should_exit = True
            await serving


@pytest.fixture(scope="session")
async def site(
    anyio_backend: str,
    mercato_addresses: Any,
    mercato_roomy: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("site"),
        log_level="warning",
        allowed_origins=("https://app.example",),
        allowed_hosts=("mcp.example",),
        max_body_bytes=100_000,
        **mercato_roomy,
    )
    found = [*(one for one in discover() if one.built_in), probe.FOUND]

    def make(port: int) -> Starlette:
        return create_app(settings.model_copy(update={"port": port}), mercato_addresses, found=found)

    async with listening(make) as opened:
        yield opened


@pytest.fixture
async def acme(site: Site, tenant: Tenant) -> Tenant:
    """`tenant`, with the probe category on."""
    from mercato.tenancy.grants import enable_category

    async with site.runtime.database.tenant(tenant.id) as db:
        await enable_category(db, "probe")
    return tenant


def envelope(
    method: str, params: dict[str, Any] | None = None, **capabilities: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the body and headers of a modern request."""
    given = params or {}
    meta = {**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": capabilities}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": method,
        "params": {**given, "_meta": {**given.get("_meta", {}), **meta}},
    }
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    name = given.get("name") or given.get("uri")
    return body, {**headers, "mcp-name": name} if name and method != "completion/complete" else headers


def raw_request(site: Site, key: str, number: int, method: str, params: dict[str, Any] | None = None) -> bytes:
    """Return the bytes of a modern request, whose id is `number`."""
    body, headers = envelope(method, params)
    content = orjson.dumps({**body, "id": number})
    lines = {
        "host": site.url.removeprefix("http://"),
        "authorization": f"Bearer {key}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "content-length": str(len(content)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + content


async def modern(
    client: httpx.AsyncClient, method: str, params: dict[str, Any] | None = None, **capabilities: Any
) -> httpx.Response:
    """Send one modern request."""
    body, headers = envelope(method, params, **capabilities)
    return await client.post("/mcp", json=body, headers=headers)


_sessions: WeakKeyDictionary[httpx.AsyncClient, str] = WeakKeyDictionary()
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}


async def shake_hands(client: httpx.AsyncClient, hello: dict[str, Any] | None = None) -> str:
    """Begin a session of the handshake era; return its id."""
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello or HELLO}
    session_id: str = (await client.post("/mcp", json=body)).headers["mcp-session-id"]
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await client.post("/mcp", json=ready, headers={"mcp-session-id": session_id})
    return session_id


async def legacy(client: httpx.AsyncClient, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send one request of the handshake era, in a session of this client; return the message that answers it."""
    import orjson

    headers = {"mcp-protocol-version": "2025-11-25"}
    if method != "initialize":
        if client not in _sessions:
            _sessions[client] = await shake_hands(client)
        headers["mcp-session-id"] = _sessions[client]
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    response = await client.post("/mcp", json=body, headers=headers)
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    answer: dict[str, Any] = orjson.loads(data[-1]) if data else response.json()
    return answer
