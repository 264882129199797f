"""Every hook of mercato, with what it returns. A plugin implements those it needs with `@hookimpl`.

Hooks take no arguments and return declarations: values, not side effects. They are called once, when the plugin is
loaded; a plugin whose hook raises or returns something else is disabled wholly, and the others serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pluggy

from mercato.plugins.category import Category
from mercato.plugins.events import Event
from mercato.plugins.importers import Importer
from mercato.plugins.jobs import Job
from mercato.plugins.settings import PluginSettings

GROUP = "mercato.plugins"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_categories() -> Sequence[Category]:  # type: ignore[empty-body]  # a specification has no body
    """Return the categories of tools, resources and prompts that this plugin contributes."""


@hookspec
def register_jobs() -> Sequence[Job[..., Any]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the jobs that this plugin contributes: what runs in the background, by the clock, or on an event."""


@hookspec
def register_events() -> Sequence[Event[Any]]:  # type: ignore[empty-body]  # a specification has no body
    """Return the kinds of events that this plugin publishes."""


@hookspec
def register_settings() -> PluginSettings:  # type: ignore[empty-body]
    """Return the plugin's settings: the deployment's, read from `MERCATO_<PLUGIN>_*`, and each tenant's own."""


@hookspec
def register_migrations() -> Path:  # type: ignore[empty-body]
    """Return the folder of the Alembic versions of the plugin's own PostgreSQL schema, which has the plugin's name."""


@hookspec
def register_importers() -> Sequence[Importer]:  # type: ignore[empty-body]
    """Return the importers, each a command `mercato import NAME`, that bring data from files or make it up."""
