"""Plugins: found, loaded one by one, and wholly there or wholly absent."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import structlog
from pydantic import ValidationError

import mercato.plugins
from mercato.plugins import hookspecs
from mercato.plugins.category import Category
from mercato.plugins.events import Event
from mercato.plugins.importers import Importer
from mercato.plugins.jobs import Job
from mercato.plugins.settings import PluginSettings
from mercato.plugins.surface import OWN_NAMES
from mercato.plugins.validation import check_categories, check_jobs, check_settings
from mercato.tenancy.rows import CORE_SCHEMA

log = structlog.stdlib.get_logger(__name__)

_NAME = re.compile(r"(?!pg_)[a-z][a-z0-9_]{0,47}")
_RESERVED = frozenset({CORE_SCHEMA, "public", "information_schema", "profile", "assistant"})


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin that could be loaded: where it comes from, and how."""

    name: str
    origin: str
    version: str
    built_in: bool
    load: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a plugin is disabled, and at which stage: check, import, register, collect, validate, migrate, settings."""

    plugin: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """A loaded plugin and everything it declared."""

    name: str
    origin: str
    version: str
    built_in: bool
    categories: tuple[Category, ...] = ()
    jobs: tuple[Job[..., Any], ...] = ()
    events: tuple[Event[Any], ...] = ()
    importers: tuple[Importer, ...] = ()
    settings: PluginSettings | None = None
    migrations: Path | None = None


class RefusedByCheckError(Exception):
    """A plugin that did not pass the check in a process of its own; the text has the stage and the reason."""


class Plugins:
    """Every plugin of this process: loaded, or failed with the reason.

    With `strict`, for tests, the first failure raises instead.
    """

    def __init__(self, *, blocked: Iterable[str] = (), strict: bool = False) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.GROUP)
        self._pluggy.add_hookspecs(hookspecs)
        self._blocked = frozenset(blocked)
        self._strict = strict
        self.loaded: dict[str, Plugin] = {}
        self.failures: list[Failure] = []

    def load(self, found: Iterable[Found], refused: Mapping[str, str] | None = None) -> None:
        """Load plugins in the order given. `refused` says why some must not even be imported."""
        for one in found:
            if one.name in self._blocked:
                continue
            if (reason := _name_refusal(one.name, self.loaded)) is not None:
                self._remember(one.name, "discover", ValueError(reason))
            elif refused and one.name in refused and not one.built_in:
                self._remember(one.name, "check", RefusedByCheckError(refused[one.name]))
            else:
                self._load_one(one)

    def fail(self, name: str, stage: str, error: BaseException) -> None:
        """Take a plugin out wholly, and remember why."""
        self._remember(name, stage, error)
        self.loaded.pop(name, None)
        if self._pluggy.has_plugin(name):
            self._pluggy.unregister(name=name)

    def _remember(self, name: str, stage: str, error: BaseException) -> None:
        if self._strict:
            raise error
        reason = _sentence(error)
        log.error("plugin disabled", plugin=name, stage=stage, reason=reason, exc_info=error)
        self.failures.append(Failure(name, stage, reason))

    def _load_one(self, found: Found) -> None:
        stage = "import"
        try:
            module = found.load()
            stage = "register"
            self._pluggy.register(module, found.name)
            self._pluggy.check_pending()
            stage = "collect"
            plugin = self._collect(found, module)
            stage = "validate"
            check_categories(plugin.categories, deeply=not plugin.built_in)
            check_settings(plugin.settings)
            check_jobs(plugin.name, plugin.jobs, plugin.events)
            _refuse_clashes(plugin, self.loaded.values())
            self.loaded[found.name] = plugin
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the edge: one plugin must not stop the others
            self.fail(found.name, stage, error)

    def _collect(self, found: Found, module: Any) -> Plugin:
        settings = self._single(found.name, "register_settings", PluginSettings)
        migrations = self._single(found.name, "register_migrations", Path)
        if migrations is not None and not migrations.is_dir():
            raise TypeError(f"register_migrations must return a folder; there is none at {migrations.name}")
        categories = tuple(category.frozen() for category in self._many(found.name, "register_categories", Category))
        names = tuple(category.name for category in categories)
        return Plugin(
            name=found.name,
            origin=found.origin,
            version=found.version,
            built_in=found.built_in,
            categories=categories,
            jobs=tuple(replace(job, categories=names) for job in self._many(found.name, "register_jobs", Job)),
            events=tuple(self._many(found.name, "register_events", Event)),
            importers=tuple(self._many(found.name, "register_importers", Importer)),
            settings=settings,
            migrations=migrations,
        )

    def _returned(self, plugin: str, hook: str) -> Iterator[Any]:
        # One at a time: pluggy itself stops at the first implementation that raises.
        for implementation in getattr(self._pluggy.hook, hook).get_hookimpls():
            if implementation.plugin_name == plugin:
                yield implementation.function()

    def _many(self, plugin: str, hook: str, kind: type) -> Iterator[Any]:
        for returned in self._returned(plugin, hook):
            if not isinstance(returned, list | tuple):
                raise TypeError(f"{hook} must return a list of {kind.__name__}, not {type(returned).__name__}")
            for item in returned:
                yield _checked(hook, item, kind)

    def _single(self, plugin: str, hook: str, kind: type) -> Any:
        for returned in self._returned(plugin, hook):
            return _checked(hook, returned, kind)
        return None


def discover() -> Iterator[Found]:
    """Yield the folders of `mercato.plugins`, then the entry points of the group `mercato.plugins`, by name."""
    for module in pkgutil.iter_modules(mercato.plugins.__path__):
        if module.ispkg:
            path = f"{mercato.plugins.__name__}.{module.name}"
            yield Found(module.name, "built in", _own_version(), True, _importer(path))
    points = importlib.metadata.entry_points(group=hookspecs.GROUP)
    for point in sorted(points, key=lambda point: point.name):
        distribution = point.dist
        version = distribution.version if distribution else "?"
        yield Found(point.name, distribution.name if distribution else point.value, version, False, point.load)


def _importer(path: str) -> Callable[[], ModuleType]:
    return lambda: importlib.import_module(path)


def _own_version() -> str:
    return importlib.metadata.version("mercato")


def _checked(hook: str, item: Any, kind: type) -> Any:
    if not isinstance(item, kind):
        raise TypeError(f"{hook} must return {kind.__name__}, not {type(item).__name__}")
    return item


def _refuse_clashes(plugin: Plugin, others: Iterable[Plugin]) -> None:
    taken = {("tool", name): "the search surface" for name in OWN_NAMES}
    for other in [*others, plugin]:
        for place in _names(other):
            if place in taken:
                raise ValueError(f"the {place[0]} {place[1]!r} is already contributed by {taken[place]}")
            taken[place] = other.name


def _names(plugin: Plugin) -> Iterator[tuple[str, str]]:
    for category in plugin.categories:
        yield "category", category.name
        for tool in category.tools:
            yield from (("tool", name) for name in (tool.name, *tool.aliases))
        yield from (("resource", resource.uri) for resource in category.resources)
        yield from (("prompt", prompt.name) for prompt in category.prompts)
    declared: list[Job[..., Any] | Event[Any]] = [*plugin.jobs, *plugin.events]
    yield from (("job or event", one.name) for one in declared)
    yield from (("importer", importer.name) for importer in plugin.importers)


def _name_refusal(name: str, taken: Iterable[str]) -> str | None:
    """The name becomes a PostgreSQL schema and a prefix of environment variables; say why it cannot, or None."""
    if name in taken or name in _RESERVED:
        return f"the plugin name {name!r} is taken"
    return None if _NAME.fullmatch(name) else f"the plugin name {name!r} must be snake_case, 48 characters at most"


def _sentence(error: BaseException) -> str:
    if isinstance(error, ValidationError):  # its own text quotes the values, which may be secrets
        wrong = {".".join(map(str, detail["loc"])) for detail in error.errors(include_input=False)}
        return f"these settings do not fit: {', '.join(sorted(wrong))}"
    try:
        text = " ".join(str(error).encode(errors="backslashreplace").decode().split())
    except Exception:  # noqa: BLE001  # a plugin's own exception may fail even at this
        text = ""
    prefix = "" if isinstance(error, RefusedByCheckError) else f"{type(error).__name__}: "
    return f"{prefix}{text or 'no reason given'}"[:500]
