"""Runtime: what one process holds while it runs, put together once and taken down in the reverse order."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import httpx
from mcp.server import Server
from redis.asyncio import Redis
from sqlalchemy.exc import DBAPIError

from mercato.migrations.runner import upgrade
from mercato.plugins.catalog import Catalog
from mercato.plugins.check import refused_plugins
from mercato.plugins.jobs import Job
from mercato.plugins.manager import Found, Plugins, discover
from mercato.server.administration import ServerAdministration
from mercato.server.auth.directory import Directory
from mercato.server.changes import ChangeBus
from mercato.server.contexts import ContextFactory
from mercato.server.engines import EngineError
from mercato.server.guard import Budget, Guard
from mercato.server.jobs.samples import JobSamples
from mercato.server.limits.limiter import Limiter
from mercato.server.mcp.callers import Callers
from mercato.server.mcp.handlers import Handlers
from mercato.server.mcp.server import build_server
from mercato.server.mcp.tasks.store import TaskStore
from mercato.server.metrics import Metrics
from mercato.server.oauth.outside import Outside
from mercato.server.oauth.server import AuthorizationServer, authorization_server
from mercato.server.oidc import CALLBACK as OIDC_CALLBACK
from mercato.server.oidc import OidcProvider
from mercato.server.reachable import check_database, check_redis
from mercato.server.replays import KeptReplays
from mercato.server.sealer import Sealer
from mercato.server.settings import Settings
from mercato.server.site import Site
from mercato.server.throttle import Throttle
from mercato.server.tracing import Tracing, reader_of, trace_commands, trace_statements
from mercato.server.usage import UsageLedger
from mercato.tenancy.database import Database
from mercato.tenancy.passwords import Passwords
from mercato.tenancy.secrets import KeyRing

if TYPE_CHECKING:
    from mercato.server.jobs.service import JobService

VERSION = importlib.metadata.version("mercato")
_HTTP_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the engines are."""

    database_url: str
    redis_url: str


@dataclass(slots=True, kw_only=True)
class Runtime:
    """The parts of a process that serves: over HTTP, in a terminal, or in a test."""

    settings: Settings
    ring: KeyRing
    database: Database
    database_url: str
    redis: Redis
    redis_url: str
    changes: ChangeBus
    directory: Directory
    plugins: Plugins
    catalog: Catalog
    contexts: ContextFactory
    limiter: Limiter
    usage: UsageLedger
    guard: Guard
    metrics: Metrics
    tracing: Tracing | None
    site: Site
    oauth: AuthorizationServer
    passwords: Passwords
    throttle: Throttle
    oidc: OidcProvider | None
    job_samples: JobSamples
    worker: JobService | None = None
    """What works in the background here, while it does."""
    job_database: Database | None = None
    """The connections of its runs."""

    def handlers(self, callers: Callers) -> Handlers:
        """Return handlers for one way of knowing the caller."""
        tasks = TaskStore(self.database, self.ring, self.changes, self.catalog)
        return Handlers(self.catalog, self.contexts, self.changes, self.guard, callers, tasks)

    def server(self, handlers: Handlers) -> Server[Any]:
        """Return the SDK's server over these handlers."""
        return build_server(handlers, self.ring, VERSION, self.tracing)


class _SharedHttp(httpx.AsyncClient):
    """The one HTTP client, which all calls of all tenants share: it keeps no cookies, and no tool closes it."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None) -> None:
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        super().__init__(timeout=_HTTP_TIMEOUT_S, transport=transport, cookies=no_cookies)

    async def aclose(self) -> None:
        """Refuse."""
        raise RuntimeError("`http` belongs to the server, which closes it")


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    addresses: Addresses,
    *,
    found: Iterable[Found] | None = None,
    strict: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
    redis_needed: bool = True,
    tracing: Tracing | None = None,
) -> AsyncIterator[Runtime]:
    """Load the plugins, bring the schemas up to date, and open every connection.

    A plugin that fails at any stage is left out with its reason; whatever else fails raises. Without `redis_needed`,
    for single commands, Redis may be away: others then learn of a change when their caches expire. For tests: `found`
    replaces the discovered plugins, `strict` raises for the first that fails, `transport` is the outside world.
    """
    await check_database(addresses.database_url)
    if redis_needed:
        await check_redis(addresses.redis_url)
    plugins = load_plugins(settings, found=found, strict=strict)
    await migrate(plugins, addresses.database_url)
    async with AsyncExitStack() as stack:
        yield await _assembled(stack, settings, addresses, plugins, transport, tracing)


async def _assembled(
    stack: AsyncExitStack,
    settings: Settings,
    addresses: Addresses,
    plugins: Plugins,
    transport: httpx.AsyncBaseTransport | None,
    tracing: Tracing | None,
) -> Runtime:
    """Put the parts together, each on those before it; the stack takes them down."""
    database, redis = _connect(stack, addresses, settings.database_pool, tracing)
    ring, metrics, changes = settings.key_ring(), Metrics(), ChangeBus(redis)
    site = Site(settings.public_url, settings.host, settings.port)
    limiter, usage = Limiter(redis), UsageLedger(database, redis, addresses.redis_url)
    replays, sealer = KeptReplays(database, ring), Sealer(database, ring)
    http, outside = await stack.enter_async_context(_SharedHttp(transport)), Outside(transport)
    administration = ServerAdministration(database, redis, changes, plugins)
    contexts = ContextFactory(database, ring, http, plugins, administration, Budget(limiter), replays)
    catalog = Catalog(plugins.loaded.values())
    oauth = authorization_server(database, ring, site, outside, catalog.categories, settings.oauth_schemes)
    for close in (outside.aclose, limiter.close, changes.stop, usage.stop, replays.stop, sealer.stop):
        stack.push_async_callback(close)
    for part in (changes, usage, replays, sealer):
        part.start()
    return Runtime(
        settings=settings,
        ring=ring,
        database=database,
        database_url=addresses.database_url,
        redis=redis,
        redis_url=addresses.redis_url,
        changes=changes,
        directory=Directory(database, changes, oauth.access_tokens, site, settings.limits),
        plugins=plugins,
        catalog=catalog,
        contexts=contexts,
        limiter=limiter,
        usage=usage,
        guard=Guard(limiter, usage, metrics),
        metrics=metrics,
        tracing=tracing,
        site=site,
        oauth=oauth,
        passwords=Passwords(),
        throttle=Throttle(redis),
        oidc=OidcProvider(settings.oidc, site.url(OIDC_CALLBACK)) if settings.oidc else None,
        job_samples=JobSamples(database.pool, partial(_jobs_of, plugins)),
    )


def _jobs_of(plugins: Plugins) -> Sequence[Job[..., Any]]:
    from mercato.server.jobs.working import every_job  # it needs this module

    return every_job(plugins)


def _connect(
    stack: AsyncExitStack, addresses: Addresses, pool_size: int, tracing: Tracing | None
) -> tuple[Database, Redis]:
    database = open_database(addresses.database_url, pool_size, tracing)
    stack.push_async_callback(database.close)
    redis = Redis.from_url(addresses.redis_url, socket_timeout=None, socket_connect_timeout=5)
    stack.push_async_callback(redis.aclose)
    if tracing is not None:
        trace_commands(tracing, redis)
    return database, redis


def open_database(url: str, pool_size: int, tracing: Tracing | None) -> Database:
    """Return a database whose statements are traced, if anything is; who asked for it closes it."""
    database = Database(url, pool_size=pool_size, reader=reader_of(tracing))
    if tracing is not None:
        for engine in database.engines.values():
            trace_statements(tracing, engine)
    return database


def load_plugins(settings: Settings, *, found: Iterable[Found] | None = None, strict: bool = False) -> Plugins:
    """Load every plugin; one from outside only after a process of its own has imported it and lived."""
    plugins = Plugins(blocked=settings.plugins_blocked, strict=strict)
    every = list(discover()) if found is None else list(found)
    plugins.load(every, {} if strict else refused_plugins(every, settings.data_dir, settings.plugins_blocked))
    return plugins


async def migrate(plugins: Plugins, database_url: str) -> Mapping[str, bool]:
    """Bring the core and every plugin up to date; return which changed. A plugin whose migration fails is taken out."""
    versions = {plugin.name: plugin.migrations for plugin in plugins.loaded.values() if plugin.migrations is not None}
    try:
        results = await upgrade(database_url, versions)
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        raise EngineError(
            f"The database cannot be brought up to date: {reason}. Its user must own it and be allowed to make roles."
        ) from error
    for result in results:
        if result.error is not None:
            plugins.fail(result.schema, "migrate", result.error)
    return {result.schema: result.changed for result in results if result.error is None}
