"""The one run of a task's tool: its end is written down together with what it wrote, and so there is one effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.ledger_work import LeaseLost
from mercato.tools.context import Handover
from mercato.tools.outcome import Outcome
from mercato.tools.replays import Delivery, Fingerprint

Finish = Callable[[TenantDatabase, Outcome], Awaitable[None]]
"""Writes down that the run is done, in the transaction of what it wrote. Raises `LeaseLost`."""


class LedgerReplays:
    """Knows nothing of other calls: the ledger sees to it that a run has one effect."""

    def __init__(self, finish: Finish) -> None:
        self._finish = finish
        self.has_finished = False

    def attempt(
        self, call: Fingerprint, delivery: Delivery | None, *, timeout_s: float
    ) -> AbstractAsyncContextManager[LedgerReplays]:
        """Begin the run."""
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.has_finished = self.has_finished and kind is None

    async def look(self) -> None:
        """There is nothing to look for."""

    def guard(self, db: TenantDatabase) -> None:
        """Nor to keep out."""

    async def remember(self, db: TenantDatabase, outcome: Outcome) -> None:
        """Write the end down. Raises `Handover` where another worker has the run."""
        try:
            await self._finish(db, outcome)
        except LeaseLost:
            raise Handover from None
        self.has_finished = True
