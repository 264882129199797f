"""One factory for the contexts that tools, resources and prompts run in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from mercato.plugins.manager import Plugin, Plugins
from mercato.server.settings import SettingsError
from mercato.tenancy.access import Access
from mercato.tenancy.connections import find_connection, read_credentials
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.errors import NotFound
from mercato.tenancy.principal import Principal
from mercato.tenancy.secrets import KeyRing
from mercato.tools.administration import Administration
from mercato.tools.arguments import reason_of
from mercato.tools.call import Call
from mercato.tools.context import Connected, Conversation, Settings, ToolContext
from mercato.tools.errors import NotConnected

_log = structlog.stdlib.get_logger(__name__)

log = structlog.stdlib.get_logger(__name__)


class ContextFactory:
    """Makes contexts, and stands behind their `connection` and `settings`."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        http: httpx.AsyncClient,
        plugins: Plugins,
        administration: Administration,
    ) -> None:
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

    @asynccontextmanager
    async def open(self, call: Call, conversation: Conversation, *, read_only: bool) -> AsyncIterator[ToolContext]:
        """Open the context of a tool's call."""
        async with self.context(
            call.principal, call.access, conversation, read_only=read_only, name=call.tool.name
        ) as ctx:
            yield ctx

    @asynccontextmanager
    async def context(
        self, principal: Principal, access: Access, conversation: Conversation, *, read_only: bool, name: str
    ) -> AsyncIterator[ToolContext]:
        """Open a context: what it wrote is committed when the block ends well."""
        bound = structlog.stdlib.get_logger(name).bind(tenant_id=access.tenant.id, name=name)
        async with self._database.tenant(access.tenant.id, read_only=read_only) as db:
            ctx = ToolContext(
                tenant=access.tenant,
                db=db,
                http=self._http,
                log=bound,
                user=principal,
                _host=self,
                _stored_settings=access.settings,
                _conversation=conversation,
            )
            yield ctx
        for act in ctx._after_commit:
            try:
                await act()
            except Exception:  # the write stands: what follows it must not make it look undone
                log.error("what follows a commit failed", name=name, exc_info=True)

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

    def settings(self, model: type[Settings], stored: Mapping[str, Mapping[str, Any]]) -> Settings:
        """Return the settings of this model. Raises `LookupError` for one that no plugin registered."""
        if (deployed := self._deployment.get(model)) is not None:
            return model.model_validate(deployed)
        section = self._sections.get(model)
        if section is None:
            raise LookupError(f"no plugin registered the settings model {model.__name__}")
        return _still_valid(model, stored.get(section, {}))


def _still_valid(model: type[Settings], stored: Mapping[str, Any]) -> Settings:
    """Return stored values over defaults, but for those that a newer, stricter version of the plugin refuses."""
    try:
        return model.model_validate(stored)
    except ValidationError as error:
        refused = {detail["loc"][0] for detail in error.errors(include_url=False) if detail["loc"]} or set(stored)
        _log.warning("stored settings are ignored", model=model.__name__, keys=sorted(map(str, refused)))
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
