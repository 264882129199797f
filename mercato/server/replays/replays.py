"""The answers of writes, kept in PostgreSQL: every process knows them, and a crash leaves them behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from mercato.server.replays.attempt import KeptAttempt, Memory
from mercato.server.replays.fates import Fates
from mercato.server.replays.runs import Runs
from mercato.tenancy.database import Database
from mercato.tenancy.rows import utc_now
from mercato.tenancy.secrets import KeyRing
from mercato.tools.replays import Delivery, Fingerprint

_COMMIT = timedelta(seconds=5)
"""What a call may take beyond its time-out."""


class KeptReplays:
    """Begins the attempts of one process, and writes in the background what became of their answers."""

    def __init__(self, database: Database, ring: KeyRing, clock: Callable[[], datetime] = utc_now) -> None:
        self.fates = Fates(database, clock)
        self._memory = Memory(database, ring, clock, Runs(), self.fates)

    def attempt(self, call: Fingerprint, delivery: Delivery | None, *, timeout_s: float) -> KeptAttempt:
        """Begin one run of a write."""
        return KeptAttempt(self._memory, call, delivery, timedelta(seconds=timeout_s) + _COMMIT)

    def start(self) -> None:
        """Begin to write."""
        self.fates.start()

    async def stop(self) -> None:
        """Write what is known."""
        await self.fates.stop()
