"""One factory for the contexts that tools, resources and prompts run in."""

from __future__ import annotations

import copy
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx
import structlog
from pydantic import BaseModel, ValidationError
from structlog.stdlib import BoundLogger

from mercato.plugins.background import is_on
from mercato.plugins.events import Event
from mercato.plugins.jobs import Job
from mercato.plugins.manager import Plugin, Plugins
from mercato.server.guard import Budget
from mercato.server.settings import SettingsError
from mercato.tenancy import ledger_work
from mercato.tenancy.access import Access
from mercato.tenancy.connections import find_connection, read_credentials
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import NotFound
from mercato.tenancy.principal import Principal
from mercato.tenancy.secrets import KeyRing
from mercato.tools.administration import Administration
from mercato.tools.arguments import reason_of
from mercato.tools.call import Call
from mercato.tools.context import Clock, Connected, Context, Conversation, JobContext, Settings, ToolContext, Watch
from mercato.tools.errors import NotConnected
from mercato.tools.moments import Moments
from mercato.tools.replays import Replays

log = structlog.stdlib.get_logger(__name__)

_MOST_LOGGERS = 10_000


Held = TypeVar("Held", bound=Context)


class OpenContext(Generic[Held]):
    """A context for as long as a block lasts: committed when it ends well, undone when it raises.

    A class, and not a generator's context manager: every call opens one.
    """

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Held) -> None:
        self._ctx = ctx

    async def __aenter__(self) -> Held:
        return self._ctx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        db = self._ctx._db
        if db is not None:
            try:
                if kind is None:
                    await db.commit()
            finally:
                await db.close()
        if kind is None:
            for act in self._ctx._after_commit:
                await self._then(act)

    async def _then(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except Exception:  # the write stands: what follows it must not make it look undone
            log.error("what follows a commit failed", tenant_id=self._ctx.tenant.id, exc_info=True)


class ContextFactory:
    """Makes contexts, and stands behind their `connection` and `settings`."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        http: httpx.AsyncClient,
        plugins: Plugins,
        administration: Administration,
        budget: Budget,
        replays: Replays,
    ) -> None:
        self._budget = budget
        self._events = {event.name for plugin in plugins.loaded.values() for event in plugin.events}
        self._subscribers = _subscribers(plugins)
        self.replays = replays
        self._moments = Moments()
        self._loggers: dict[tuple[int, str], BoundLogger] = {}
        self._database = database
        self._ring = ring
        self._http = http
        self.administration = administration
        self._deployment: dict[type[BaseModel], BaseModel] = {}
        self._sections: dict[type[BaseModel], str] = {}
        for plugin in list(plugins.loaded.values()):
            try:
                self._adopt(plugin)
            except SettingsError as error:
                plugins.fail(plugin.name, "settings", error)

    def _adopt(self, plugin: Plugin) -> None:
        if plugin.settings is None:
            return
        if (model := plugin.settings.deployment) is not None:
            self._deployment[model] = _deployed(plugin.name, model)
        if plugin.settings.tenant is not None:
            self._sections[plugin.settings.tenant] = plugin.name

    def open(self, call: Call, conversation: Conversation, *, read_only: bool) -> OpenContext[ToolContext]:
        """Open the context of a tool's call."""
        access, meter = call.access, call.meter
        if meter is None:
            meter = call.meter = self._budget.meter(access)
        return OpenContext(
            ToolContext(self, access, meter, call.tool.name, call.principal, conversation, read_only=read_only)
        )

    def context(
        self, principal: Principal, access: Access, conversation: Conversation, *, read_only: bool, name: str
    ) -> OpenContext[ToolContext]:
        """Open a context: what it wrote is committed when the block ends well."""
        meter = self._budget.meter(access)
        return OpenContext(ToolContext(self, access, meter, name, principal, conversation, read_only=read_only))

    def job(self, access: Access, name: str, run_id: int, attempt: int) -> OpenContext[JobContext]:
        """Open the context of a run of a job."""
        return OpenContext(JobContext(self, access, self._budget.meter(access), name, run_id, attempt))

    def over(self, database: Database) -> ContextFactory:
        """Return the same factory over other connections, for work that must not hold up what goes by these."""
        other = copy.copy(self)
        other._database = database
        return other

    def clock(self, seconds: float, watch: Watch | None = None) -> Clock:
        """Return what stops a block after so many seconds."""
        return Clock(seconds, self._moments, watch)

    @property
    def http(self) -> httpx.AsyncClient:
        """The client for the outside world, which all share."""
        return self._http

    def database(self, tenant_id: int, *, read_only: bool) -> TenantDatabase:
        """Return the rows of a tenant, for who commits and closes it."""
        return self._database.open_tenant(tenant_id, read_only=read_only)

    def logger(self, tenant_id: int, name: str) -> BoundLogger:
        """Return the logger of a tool for a tenant: made once, as most calls log nothing."""
        kept = self._loggers.get((tenant_id, name))
        if kept is None:
            if len(self._loggers) >= _MOST_LOGGERS:
                self._loggers.clear()
            kept = structlog.stdlib.get_logger(name, tenant_id=tenant_id, name=name)
            self._loggers[tenant_id, name] = kept
        return kept

    async def connection(self, db: TenantDatabase, integration: str, account: str | None) -> Connected:
        """Return a connected account with readable credentials. Raises `NotConnected`."""
        try:
            found = await find_connection(db, integration, account)
        except NotFound:
            which = f"{integration} ({account})" if account else integration
            raise NotConnected(
                f"{which} is not connected.", next_step="An owner or admin connects it in the console; then call again."
            ) from None
        return Connected(integration, found.account, found.settings, read_credentials(found, self._ring))

    async def publish(self, ctx: Context, event: Event[Any], data: BaseModel) -> None:
        """Store a run of each job that is declared on an event, of the plugins that the tenant has on.

        Raises `LookupError` for one that nobody registered.
        """
        if event.name not in self._events:
            raise LookupError(f"no plugin registered the event {event.name}")
        told = event.told(secrets.token_hex(16), ctx.tenant.id, data)
        for job in self._subscribers.get(event.name, ()):
            if is_on(job.categories, ctx._access.categories):
                payload: dict[str, Any] = {job.parameters[0]: told}
                await job.enqueue(ctx, **payload)

    async def job_progress(
        self, run_id: int, attempt: int, done: float, total: float | None, message: str | None
    ) -> None:
        """Write down how far a run of a job is."""
        await ledger_work.note_progress(self._database.pool, run_id, attempt, done, total, message)

    def settings(self, model: type[Settings], stored: Mapping[str, Mapping[str, Any]]) -> Settings:
        """Return the settings of this model. Raises `LookupError` for one that no plugin registered."""
        if (deployed := self._deployment.get(model)) is not None:
            return model.model_validate(deployed)
        section = self._sections.get(model)
        if section is None:
            raise LookupError(f"no plugin registered the settings model {model.__name__}")
        return _still_valid(model, stored.get(section, {}))


def _subscribers(plugins: Plugins) -> Mapping[str, Sequence[Job[..., Any]]]:
    found: dict[str, list[Job[..., Any]]] = {}
    for plugin in plugins.loaded.values():
        for job in plugin.jobs:
            if job.on is not None:
                found.setdefault(job.on.name, []).append(job)
    return found


def _still_valid(model: type[Settings], stored: Mapping[str, Any]) -> Settings:
    """Return stored values over defaults, but for those that a newer, stricter version of the plugin refuses."""
    try:
        return model.model_validate(stored)
    except ValidationError as error:
        refused = {detail["loc"][0] for detail in error.errors(include_url=False) if detail["loc"]} or set(stored)
        log.warning("stored settings are ignored", model=model.__name__, keys=sorted(map(str, refused)))
        return model.model_validate({key: value for key, value in stored.items() if key not in refused})


def _deployed(plugin: str, model: type[BaseModel]) -> BaseModel:
    """Read a plugin's deployment settings. Raises `SettingsError`, whose text names the variable, not its value."""
    try:
        return model.model_validate(_environment(plugin, model))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        variable = f"MERCATO_{plugin.upper()}_{first['loc'][0] if first['loc'] else ''}".upper()
        raise SettingsError(f"{variable} {reason_of(first)}.") from None


def _environment(plugin: str, model: type[BaseModel]) -> dict[str, str]:
    prefix = f"MERCATO_{plugin.upper()}_"
    return {
        name: os.environ[prefix + name.upper()] for name in model.model_fields if prefix + name.upper() in os.environ
    }
