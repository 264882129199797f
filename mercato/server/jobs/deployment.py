"""What the deployment's own jobs hold while they run: no tenant, but the database as the system sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mercato.plugins.jobs import Job
from mercato.tenancy import ledger_work
from mercato.tenancy.database import Database, TenantDatabase


@dataclass(slots=True)
class NoMeter:
    """What the deployment does costs no tenant anything."""

    cents: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentContext:
    """The context of a job whose name begins with `core.`."""

    database: Database
    run_id: int
    attempt: int
    _meter: NoMeter
    _db: TenantDatabase | None = None


class DeploymentOpening:
    """Opens contexts of the deployment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> AsyncIterator[DeploymentContext]:
        """Open the context of a run."""
        yield DeploymentContext(self._database, claimed.id, claimed.attempt, NoMeter())
