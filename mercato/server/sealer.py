"""The sealer: the task of a process that has the audit's chain go on, some moments after entries were committed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from sqlalchemy import event

from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.audit_chain import MOST_IN_A_RUN, seal
from mercato.tenancy.audit_signer import AuditSigner
from mercato.tenancy.database import Database, is_outage
from mercato.tenancy.secrets import KeyRing

log = structlog.stdlib.get_logger(__name__)

_SWEEP_S = 5
"""What other processes wrote, and could not seal, is found within this time."""
_GATHER_S = 0.2
"""An entry is written just before its transaction is committed; and others follow it."""
_LAST_RUN_S = 2


class Sealer:
    """Seals soon after this process wrote an entry, and every few seconds whatever others left.

    One process works at a time; the others leave it to that one, and look again at their next sweep.
    """

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._signer = AuditSigner(ring)
        self._written = False
        self._due = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._away = False

    def start(self) -> None:
        """Begin to seal."""
        event.listen(AuditEntry, "after_insert", self._wake)
        self._task = asyncio.create_task(self._seal_until_stopped(), name="mercato-sealer")

    async def stop(self) -> None:
        """Seal what this process has just written, and end."""
        event.remove(AuditEntry, "after_insert", self._wake)
        self._stopping.set()
        self._due.set()
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._task, _LAST_RUN_S)

    def _wake(self, *_: object) -> None:
        self._written = True
        self._due.set()

    async def _seal_until_stopped(self) -> None:
        while not self._stopping.is_set():
            await _wait(self._due, _SWEEP_S)
            await _wait(self._stopping, _GATHER_S)
            self._due.clear()
            if self._written or not self._stopping.is_set():
                self._written = False
                await self._run()

    async def _run(self) -> None:
        try:
            while (run := await seal(self._database, self._signer)) is not None:
                for tenant_id in run.lost:
                    log.error("the end of an audit chain is missing or not ours", tenant_id=tenant_id)
                if run.sealed < MOST_IN_A_RUN:
                    break
            self._away = False
        except Exception as error:  # the edge: entries that are not sealed now are sealed at a later sweep
            if not is_outage(error):
                log.error("the audit was not sealed", exc_info=error)
            elif not self._away:  # once for each time that it goes away
                log.warning("the database is away: the audit is sealed later", error=type(error).__name__)
                self._away = True


async def _wait(what: asyncio.Event, most_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            await what.wait()
