"""Administration: what the server lets be seen and set of itself; `mercato.admin` shows it to plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from mercato.tenancy.job_runs import Run

Status = Literal["healthy", "degraded", "unhealthy"]
ServiceName = Literal["database", "cache"]


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What a probe found of one service. `degraded` is slow; the message is for anybody to read."""

    service: ServiceName
    status: Status
    latency_ms: float
    message: str
    last_checked: datetime


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin that serves. `origin` is the distribution it came with."""

    name: str
    origin: str
    version: str
    categories: tuple[str, ...]
    tool_count: int


@dataclass(frozen=True, slots=True)
class DisabledPlugin:
    """A plugin that was taken out. The reason is for those who run the server: it may quote what they configured."""

    name: str
    stage: str
    reason: str


class Administration(Protocol):
    """The server behind `mercato.admin`."""

    @property
    def version(self) -> str:
        """The version of mercato."""

    @property
    def started_at(self) -> datetime:
        """When this process began to serve."""

    async def probe(self, only: ServiceName | None = None) -> Sequence[ServiceHealth]:
        """Ask every service now, or only one."""

    def loaded_plugins(self) -> Sequence[LoadedPlugin]:
        """Return the plugins that serve."""

    def disabled_plugins(self) -> Sequence[DisabledPlugin]:
        """Return the plugins that do not, with the reason."""

    def declarations(self) -> Sequence[Any]:
        """Return the plugins that serve with all that they declare: each a `Plugin` of `mercato.plugins.manager`."""

    def tool_names(self) -> frozenset[str]:
        """Return the names of all tools, and those that they had before."""

    def tenant_settings(self) -> Mapping[str, type[BaseModel]]:
        """Return the model of what a tenant may set, by the name of the plugin that registered it."""

    async def admissions(self, tenant_id: int, days: Iterable[date]) -> int | None:
        """Return how many calls of a tenant were let in on these days in UTC; None where Redis does not answer."""

    async def run_changed(self, run: Run) -> None:
        """Tell those who follow a run of a job that it has changed. Call it after the commit."""

    async def access_changed(self, tenant_id: int) -> None:
        """Let every process forget what it has read of this tenant. Call it after the commit."""
