"""The HTTP application: parts, routes and middleware, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mercato.plugins.manager import Found
from mercato.server.auth.challenge import Challenges
from mercato.server.auth.middleware import Authentication
from mercato.server.health import probe
from mercato.server.mcp.callers import HttpCallers
from mercato.server.mcp.endpoint import Endpoint
from mercato.server.mcp.handlers import Handlers
from mercato.server.middleware import BodyLimit, HostCheck, RequestLog, refusal
from mercato.server.oauth.routes import is_open_to_all, oauth_routes
from mercato.server.runtime import Addresses, Runtime, open_runtime
from mercato.server.settings import Settings
from mercato.server.site import MCP_PATH, Site
from mercato.server.web.cookies import Cookies
from mercato.server.web.page import Web
from mercato.server.web.routes import web_routes
from mercato.server.web.sign_in import not_found
from mercato.server.web.templating import Templates


def create_app(settings: Settings, addresses: Addresses, *, found: Iterable[Found] | None = None) -> Starlette:
    """Return the application. Its parts are opened by its lifespan, so that creating it has no effect.

    `settings.port` is the port that it is reached at: its own addresses are made of it. `found` replaces the
    discovered plugins, for tests.
    """

    site = Site(settings.public_url, settings.host, settings.port)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_runtime(settings, addresses, found=found) as runtime:
            handlers = runtime.handlers(HttpCallers())
            web = Web(runtime, Templates(), Cookies(runtime.site, runtime.ring))
            async with serving(runtime, handlers, web.cookies) as endpoint:
                app.state.runtime, app.state.endpoint, app.state.web = runtime, endpoint, web
                app.state.close_streams = handlers.close_streams
                yield

    app = Starlette(
        routes=[
            Route(MCP_PATH, _FromState()),  # first: a route is looked for from the top, and this one is called most
            *oauth_routes(),
            *web_routes(),
            Route("/healthz", _healthz),
            Route("/readyz", _readyz),
            Route(MCP_PATH + "/{narrowed:path}", _FromState()),
        ],
        exception_handlers={404: not_found, 405: _not_allowed},
        middleware=[
            Middleware(RequestLog),
            Middleware(
                HostCheck,
                public_url=site.issuer,
                hosts=settings.allowed_hosts,
                origins=settings.allowed_origins,
                open_to_all=is_open_to_all,
            ),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
        lifespan=lifespan,
    )
    # A redirect to the address without the slash would be made of the request's own Host and scheme.
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def serving(runtime: Runtime, handlers: Handlers, cookies: Cookies) -> AsyncIterator[Authentication]:
    """Run the MCP endpoint of a runtime, behind authentication."""
    endpoint = Endpoint(runtime.server(handlers), runtime.catalog, max_body_bytes=runtime.settings.max_body_bytes)
    async with endpoint.run():
        challenges = Challenges(runtime.site, runtime.catalog.categories)
        yield Authentication(endpoint, runtime.directory, challenges, cookies, runtime.site)


class _FromState:
    """The endpoint, which exists once the lifespan has begun."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.endpoint(scope, receive, send)


async def _not_allowed(request: Request, error: Exception) -> Response:
    """Answer a method that an address does not have, in the form that its callers read."""
    response = refusal(request.url.path, 405, "This address does not answer that method.")
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})
    return response


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
