"""What the server lets be seen and set of itself, put together from its parts."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.plugins.manager import Plugin, Plugins
from mercato.server.changes import Change, ChangeBus
from mercato.server.health import probe
from mercato.server.usage import admitted_on
from mercato.tenancy.database import Database
from mercato.tenancy.job_runs import Run
from mercato.tenancy.rows import utc_now
from mercato.tools.administration import DisabledPlugin, LoadedPlugin, ServiceHealth, ServiceName


class ServerAdministration:
    """The parts of this process behind `mercato.admin`."""

    def __init__(self, database: Database, redis: Redis, changes: ChangeBus, plugins: Plugins) -> None:
        self._database = database
        self._redis = redis
        self._changes = changes
        self._plugins = plugins
        self.version = importlib.metadata.version("mercato")
        self.started_at = utc_now()

    async def probe(self, only: ServiceName | None = None) -> Sequence[ServiceHealth]:
        """Ask every service now, or only one."""
        found = await probe(self._database, self._redis, only)
        now = utc_now()
        return [
            ServiceHealth(name, service.status, service.latency_ms, service.message, now)
            for name, service in found.items()
        ]

    def loaded_plugins(self) -> Sequence[LoadedPlugin]:
        """Return the plugins that serve, by name."""
        return [
            LoadedPlugin(
                name=plugin.name,
                origin=plugin.origin,
                version=plugin.version,
                categories=tuple(category.name for category in plugin.categories),
                tool_count=sum(len(category.tools) for category in plugin.categories),
            )
            for _, plugin in sorted(self._plugins.loaded.items())
        ]

    def disabled_plugins(self) -> Sequence[DisabledPlugin]:
        """Return the plugins that do not, in the order in which they failed."""
        return [DisabledPlugin(failure.plugin, failure.stage, failure.reason) for failure in self._plugins.failures]

    def declarations(self) -> Sequence[Plugin]:
        """Return the plugins that serve with all that they declare, by name."""
        return [plugin for _, plugin in sorted(self._plugins.loaded.items())]

    def tool_names(self) -> frozenset[str]:
        """Return the names of all tools, and those that they had before."""
        categories = (category for plugin in self._plugins.loaded.values() for category in plugin.categories)
        return frozenset(
            name for category in categories for tool in category.tools for name in (tool.name, *tool.aliases)
        )

    def tenant_settings(self) -> Mapping[str, type[BaseModel]]:
        """Return the model of what a tenant may set, by the name of the plugin that registered it."""
        return {
            plugin.name: plugin.settings.tenant
            for _, plugin in sorted(self._plugins.loaded.items())
            if plugin.settings is not None and plugin.settings.tenant is not None
        }

    async def admissions(self, tenant_id: int, days: Iterable[date]) -> int | None:
        """Return how many calls of a tenant were let in on these days in UTC; None where Redis does not answer."""
        try:
            return sum((await admitted_on(self._redis, tenant_id, days)).values())
        except (RedisError, OSError, TimeoutError):
            return None

    async def run_changed(self, run: Run) -> None:
        """Tell those who follow a run that it has changed: only tasks of MCP are followed."""
        if run.task_id is not None:
            await self._changes.publish(Change("task", run.tenant_id, run.task_id.hex))

    async def access_changed(self, tenant_id: int) -> None:
        """Let every process forget what it has read of this tenant."""
        await self._changes.publish(Change("access", tenant_id))
