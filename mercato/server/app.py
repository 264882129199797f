"""The HTTP application: parts, routes and middleware, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mercato.plugins.manager import Found
from mercato.server.auth.middleware import Authentication
from mercato.server.health import probe
from mercato.server.mcp.callers import HttpCallers
from mercato.server.mcp.endpoint import Endpoint
from mercato.server.mcp.handlers import Handlers
from mercato.server.middleware import BodyLimit, HostCheck, RequestLog
from mercato.server.runtime import Addresses, Runtime, open_runtime
from mercato.server.settings import Settings


def create_app(settings: Settings, addresses: Addresses, *, found: Iterable[Found] | None = None) -> Starlette:
    """Return the application. Its parts are opened by its lifespan, so that creating it has no effect.

    `found` replaces the discovered plugins, for tests.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_runtime(settings, addresses, found=found) as runtime:
            handlers = runtime.handlers(HttpCallers())
            async with serving(runtime, handlers) as endpoint:
                app.state.runtime, app.state.endpoint = runtime, endpoint
                app.state.close_streams = handlers.close_streams
                yield

    return Starlette(
        routes=[
            Route("/mcp", _FromState()),
            Route("/healthz", _healthz),
            Route("/readyz", _readyz),
        ],
        middleware=[
            Middleware(RequestLog),
            Middleware(
                HostCheck,
                public_url=settings.public_url,
                hosts=settings.allowed_hosts,
                origins=settings.allowed_origins,
            ),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
        lifespan=lifespan,
    )


@asynccontextmanager
async def serving(runtime: Runtime, handlers: Handlers) -> AsyncIterator[Authentication]:
    """Run the MCP endpoint of a runtime, behind authentication."""
    endpoint = Endpoint(runtime.server(handlers), runtime.catalog, max_body_bytes=runtime.settings.max_body_bytes)
    async with endpoint.run():
        yield Authentication(endpoint, runtime.directory)


class _FromState:
    """The endpoint, which exists once the lifespan has begun."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.endpoint(scope, receive, send)


async def _healthz(request: Request) -> JSONResponse:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


async def _readyz(request: Request) -> JSONResponse:
    """Say whether it can do its work: 503 without the database; Redis and plugins are told of, but do not stop it."""
    runtime: Runtime = request.app.state.runtime
    services = await probe(runtime.database, runtime.redis)
    ready = services["database"].healthy
    body = {
        "status": "ready" if ready else "unavailable",
        "services": {name: service.public() for name, service in services.items()},
        "plugins": {"loaded": sorted(runtime.plugins.loaded), "disabled": _disabled(runtime)},
    }
    return JSONResponse(body, status_code=200 if ready else 503)


def _disabled(runtime: Runtime) -> list[dict[str, str]]:
    return [{"plugin": failure.plugin, "stage": failure.stage} for failure in runtime.plugins.failures]
