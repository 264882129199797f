"""The HTTP application: parts, routes and middleware, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mercato.plugins.manager import Found
from mercato.server.auth.challenge import Challenges
from mercato.server.auth.middleware import Authentication
from mercato.server.gauges import watch, watch_streams
from mercato.server.health import job_state, probe
from mercato.server.logs import AccessLog
from mercato.server.mcp.announcement import announce
from mercato.server.mcp.callers import HttpCallers
from mercato.server.mcp.definitions import Definitions
from mercato.server.mcp.endpoint import Endpoint
from mercato.server.mcp.fast import FastLane
from mercato.server.mcp.handlers import Handlers
from mercato.server.mcp.legacy import Legacy
from mercato.server.mcp.listen import Listening
from mercato.server.mcp.sessions.bounds import Bounds
from mercato.server.mcp.sessions.parts import Parts
from mercato.server.mcp.sse import HttpSse
from mercato.server.middleware import BodyLimit, HostCheck, KnownHosts, RequestLog, refusal
from mercato.server.oauth.routes import is_open_to_all, oauth_routes
from mercato.server.runtime import Addresses, Runtime, open_runtime
from mercato.server.settings import Settings
from mercato.server.site import MCP_PATH, MESSAGES_PATH, METRICS_PATH, SSE_PATH, Site, is_endpoint
from mercato.server.tracing import Tracing
from mercato.server.web.cookies import Cookies
from mercato.server.web.page import Web
from mercato.server.web.routes import web_routes
from mercato.server.web.sign_in import not_found
from mercato.server.web.templating import Templates


class Mercato(Starlette):
    """The application, with the fast lane before everything else once its parts are open."""

    lane: FastLane | None = None
    tracing: Tracing | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]  # it needs no coroutine of its own
        """Answer a request."""
        if self.tracing is not None and scope["type"] == "http":
            return self.tracing.serve(self._way(scope), scope, receive, send)
        return self._way(scope)(scope, receive, send)

    def at_once(self, scope: Scope, body: bytes | bytearray) -> bool:
        """Answer a request that came in one piece without a task of its own; False, with nothing done, for most."""
        return self.lane is not None and self.lane.at_once(scope, body)

    def _way(self, scope: Scope) -> ASGIApp:
        lane = self.lane
        if lane is not None and scope["type"] == "http" and scope["method"] == "POST" and is_endpoint(scope["path"]):
            return lane
        return super().__call__


def create_app(
    settings: Settings,
    addresses: Addresses,
    *,
    found: Iterable[Found] | None = None,
    tracing: Tracing | None = None,
) -> Starlette:
    """Return the application. Its parts are opened by its lifespan, so that creating it has no effect.

    `settings.port` is the port that it is reached at: its own addresses are made of it. `found` replaces the
    discovered plugins, for tests.
    """

    site = Site(settings.public_url, settings.host, settings.port)
    access_log = AccessLog()

    @asynccontextmanager
    async def lifespan(app: Mercato) -> AsyncIterator[None]:
        async with open_runtime(settings, addresses, found=found, tracing=tracing) as runtime:
            access_log.count = runtime.metrics.request
            handlers = runtime.handlers(HttpCallers())
            web = Web(runtime, Templates(), Cookies(runtime.site, runtime.ring))
            async with _showing_metrics(app, runtime), serving(runtime, handlers, web.cookies) as served:
                app.state.runtime, app.state.served, app.state.web = runtime, served, web
                app.state.close_streams = served.close_streams
                await announce(runtime.catalog, runtime.redis, runtime.changes)
                app.lane = fast_lane(app, runtime, handlers, served, access_log)
                yield
                app.lane = None
                access_log.flush()

    app = Mercato(
        routes=[
            Route(MCP_PATH, _ServedEndpoint()),  # first: routes are looked for from the top, and this is called most
            *oauth_routes(),
            *web_routes(),
            Route("/healthz", _healthz),
            Route("/readyz", _readyz),
            Route(MCP_PATH + "/{narrowed:path}", _ServedEndpoint()),
            *((Route(METRICS_PATH, _ServedMetrics()),) if settings.metrics_key else ()),
            *((Route(SSE_PATH, _ServedSse()), Route(MESSAGES_PATH, _ServedSse())) if settings.sse else ()),
        ],
        exception_handlers={404: not_found, 405: _not_allowed},
        middleware=[
            Middleware(RequestLog, log=access_log),
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
    app.tracing = tracing
    return app


def fast_lane(app: Mercato, runtime: Runtime, handlers: Handlers, served: Served, access_log: AccessLog) -> FastLane:
    """Return the lane of a runtime."""
    return FastLane(
        partial(Starlette.__call__, app),
        hosts=KnownHosts(runtime.site.issuer, runtime.settings.allowed_hosts),
        directory=runtime.directory,
        catalog=runtime.catalog,
        handlers=handlers,
        guard=runtime.guard,
        definitions=Definitions(runtime.catalog, runtime.server(handlers)),
        listening=served.listening,
        sessions=served.legacy.sessions,
        calls=served.legacy.calls,
        tracing=runtime.tracing,
        log=access_log,
        max_body_bytes=runtime.settings.max_body_bytes,
    )


@asynccontextmanager
async def serving(runtime: Runtime, handlers: Handlers, cookies: Cookies) -> AsyncIterator[Served]:
    """Run the MCP endpoint of a runtime, behind authentication."""
    server, settings = runtime.server(handlers), runtime.settings
    bounds = Bounds(idle_s=settings.session_idle_s, question_s=settings.question_timeout_s)
    parts = Parts(server, runtime.redis, runtime.changes, runtime.catalog, bounds)
    legacy = Legacy(parts)
    listening = Listening(runtime.catalog, runtime.changes, handlers.tasks, server.server_info_stamp)
    watch_streams(runtime.metrics, listening, parts.writers)
    endpoint = Endpoint(
        server, runtime.catalog, runtime.guard, legacy, listening, max_body_bytes=settings.max_body_bytes
    )

    def close_streams() -> None:
        handlers.close_streams()
        listening.close()
        legacy.close()

    async with endpoint.run():
        challenges = Challenges(runtime.site, runtime.catalog.categories)

        def behind_authentication(app: ASGIApp) -> Authentication:
            return Authentication(app, runtime.directory, challenges, cookies, runtime.site)

        sse = behind_authentication(HttpSse(parts, partial(endpoint.limit, on_stream=True)))
        yield Served(behind_authentication(endpoint), sse, legacy, listening, close_streams)


@dataclass(frozen=True, slots=True)
class Served:
    """What serves MCP: both forms over HTTP behind authentication, and what ends their streams."""

    endpoint: ASGIApp
    sse: ASGIApp
    legacy: Legacy
    listening: Listening
    close_streams: Callable[[], None]


@asynccontextmanager
async def _showing_metrics(app: Mercato, runtime: Runtime) -> AsyncIterator[None]:
    """Have the page of metrics, where the settings ask for one."""
    settings = runtime.settings
    if settings.metrics_port is None and settings.metrics_key is None:
        yield
        return
    from mercato.server.metrics_page import MetricsPage, serving_metrics  # its library takes a while to load

    watch(runtime)
    key = None if settings.metrics_key is None else settings.metrics_key.get_secret_value()
    app.state.metrics_page = page = MetricsPage(runtime.metrics, key)
    async with serving_metrics(settings, page):
        yield


class _ServedMetrics:
    """The page of metrics, which exists once the lifespan has begun."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.metrics_page(scope, receive, send)


class _ServedEndpoint:
    """The endpoint, which exists once the lifespan has begun."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.served.endpoint(scope, receive, send)


class _ServedSse:
    """The same for HTTP+SSE."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.served.sse(scope, receive, send)


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
    """Say whether it can do its work: 503 without the database. Redis, plugins, jobs are told of, but stop nothing."""
    runtime: Runtime = request.app.state.runtime
    services = await probe(runtime.database, runtime.redis)
    ready = services["database"].healthy
    body = {
        "status": "ready" if ready else "unavailable",
        "services": {name: service.public() for name, service in services.items()},
        "limits": "counted by this process alone" if runtime.limiter.local else "shared",
        "plugins": {"loaded": sorted(runtime.plugins.loaded), "disabled": _disabled(runtime)},
        "jobs": await job_state(runtime, look=ready),
    }
    return JSONResponse(body, status_code=200 if ready else 503)


def _disabled(runtime: Runtime) -> list[dict[str, str]]:
    return [{"plugin": failure.plugin, "stage": failure.stage} for failure in runtime.plugins.failures]
