"""What the deployment's own jobs hold while they run: no tenant, but the runtime, and the database as the system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mercato.plugins.jobs import Job
from mercato.server.runtime import Runtime
from mercato.tenancy import ledger_work
from mercato.tenancy.database import TenantDatabase

PREFIX = "core."
"""What the names of the deployment's own jobs begin with."""


@dataclass(slots=True)
class NoMeter:
    """What the deployment does costs no tenant anything."""

    cents: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentContext:
    """The context of a job of the deployment; `jobs` are all that this process knows."""

    runtime: Runtime
    jobs: Sequence[Job[..., Any]]
    run_id: int
    attempt: int
    _meter: NoMeter
    _db: TenantDatabase | None = None


class DeploymentOpening:
    """Opens contexts of the deployment."""

    def __init__(self, runtime: Runtime, jobs: Sequence[Job[..., Any]]) -> None:
        self._runtime = runtime
        self._jobs = jobs

    @asynccontextmanager
    async def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> AsyncIterator[DeploymentContext]:
        """Open the context of a run."""
        yield DeploymentContext(self._runtime, self._jobs, claimed.id, claimed.attempt, NoMeter())
