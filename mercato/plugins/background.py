"""Background: the jobs and events that plugins declare, side by side, as people and models see them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mercato.plugins.events import Event
from mercato.plugins.jobs import Job
from mercato.plugins.manager import Plugin
from mercato.plugins.payloads import Fault
from mercato.tools.schema import Schema, example_of

Kind = Literal["event", "job"]


@dataclass(frozen=True, slots=True)
class Declared:
    """A job, or an event with the names of the jobs that listen to it."""

    plugin: str
    source: Job[..., Any] | Event[Any] = field(repr=False)
    listeners: Sequence[str] = ()

    @property
    def kind(self) -> Kind:
        """What it is."""
        return "job" if isinstance(self.source, Job) else "event"

    @property
    def name(self) -> str:
        """Its name, which no job and no other event has."""
        return self.source.name

    @property
    def description(self) -> str:
        """What it is for."""
        return self.source.description

    @property
    def schedule(self) -> str | None:
        """When it runs by the clock, as cron has it."""
        declared = self.source.schedule if isinstance(self.source, Job) else None
        return None if declared is None else declared.cron

    @property
    def each_tenant(self) -> bool:
        """Whether the clock is the tenant's own, and not UTC."""
        return isinstance(self.source, Job) and self.source.each_tenant

    @property
    def listens_to(self) -> str | None:
        """The event that it runs for."""
        event = self.source.on if isinstance(self.source, Job) else None
        return None if event is None else event.name

    @property
    def schema(self) -> Schema:
        """The JSON Schema of its payload."""
        return self.source.schema

    @property
    def example(self) -> dict[str, Any]:
        """A payload that has what it must."""
        return example_of(self.schema, {}, set())

    def faults(self, payload: Mapping[str, Any]) -> Sequence[Fault]:
        """Return all that keeps it from being enqueued or told with this payload."""
        return self.source.faults(payload)


def declared_by(plugins: Iterable[Plugin]) -> list[Declared]:
    """Return the events and jobs of plugins, by name."""
    every = list(plugins)
    listeners: dict[str, list[str]] = {}
    for plugin in every:
        for job in plugin.jobs:
            if job.on is not None:
                listeners.setdefault(job.on.name, []).append(job.name)
    return sorted(_declared(every, listeners), key=lambda one: one.name)


def _declared(plugins: Iterable[Plugin], listeners: Mapping[str, list[str]]) -> Iterator[Declared]:
    for plugin in plugins:
        for event in plugin.events:
            yield Declared(plugin.name, event, tuple(sorted(listeners.get(event.name, ()))))
        for job in plugin.jobs:
            yield Declared(plugin.name, job)


def enabled(plugins: Iterable[Plugin], categories: Collection[str]) -> list[Plugin]:
    """Return the plugins that a tenant with these categories has on."""
    return [plugin for plugin in plugins if is_on([category.name for category in plugin.categories], categories)]


def is_on(declared: Collection[str], categories: Collection[str]) -> bool:
    """Return whether a plugin that declared some categories is on where these are: one without any always is."""
    return not declared or any(name in categories for name in declared)
