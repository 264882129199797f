"""Opening: the context that a run gets, for its tenant or for the deployment as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from mercato.plugins.jobs import Job, Permanent
from mercato.server.auth.directory import Directory
from mercato.server.contexts import ContextFactory
from mercato.tenancy import ledger_work
from mercato.tenancy.ledger import State
from mercato.tools.context import JobContext


class TenantGone(Permanent):
    """The tenant that the run is for is not there, or not active."""


class Settled(Exception):  # no error
    """Raised by a run whose end, or whose waiting, is written down already: `state` is what it is now."""

    def __init__(self, state: State) -> None:
        super().__init__(f"the run is {state}")
        self.state = state


class Opening(Protocol):
    """Opens the context of a run: what it wrote is committed when the block ends well, and undone when it raises."""

    def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> Any:
        """Open it. Raises `Permanent` where there is nobody to run it for."""


class TenantOpening:
    """Opens contexts of tenants."""

    def __init__(self, contexts: ContextFactory, directory: Directory) -> None:
        self._contexts = contexts
        self._directory = directory

    @asynccontextmanager
    async def open(self, job: Job[..., Any], claimed: ledger_work.Claimed) -> AsyncIterator[JobContext]:
        """Open the context of a run."""
        access = await self._directory.access(claimed.tenant_id)
        if access is None:
            raise TenantGone(f"there is no tenant {claimed.tenant_id}")
        async with self._contexts.job(access, job.name, claimed.id, claimed.attempt) as ctx:
            yield ctx
