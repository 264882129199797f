"""Attempt: one run of a write, which looks for its first answer, keeps its own, and learns what becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import NoReturn, Self

import sqlalchemy as sa

from mercato.server.replays.fates import Fates, Mark
from mercato.server.replays.runs import Run, Runs
from mercato.server.replays.verdict import Verdict, judge
from mercato.tenancy import answers
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.secrets import KeyRing
from mercato.tools.outcome import Outcome
from mercato.tools.replays import Delivery, Fingerprint, KeyReused, Repeated, StillRunning

PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.2
_GRACE_S = 0.1
"""How long a call that finds an equal one in its way waits for word from another process that this lost its caller."""
_PAUSE = sa.text("select pg_sleep(:seconds)").bindparams(seconds=PAUSE_S)


@dataclass(frozen=True, slots=True)
class Memory:
    """What all attempts of a process share."""

    database: Database
    ring: KeyRing
    clock: Callable[[], datetime]
    runs: Runs
    fates: Fates


class KeptAttempt:
    """One run of a write. A block: at its end it is known whether there is an answer, and somebody to tell its fate."""

    def __init__(self, memory: Memory, call: Fingerprint, delivery: Delivery | None, patience: timedelta) -> None:
        self._memory = memory
        self._call = call
        self._delivery = delivery
        self._patience = patience
        self._run: Run | None = None
        self._mark: Mark | None = None
        self._db: TenantDatabase | None = None
        self._answer_id: int | None = None
        self._refusal: Exception | None = None

    async def __aenter__(self) -> Self:
        return self

    async def look(self) -> None:
        """Look for the first answer. Raises `Repeated`, `KeyReused` or `StillRunning`."""
        until = time.monotonic() + self._patience.total_seconds()
        await self._join(until)
        self._run = self._memory.runs.begin(self._call)
        self._listen()
        pause_s = PAUSE_S
        while self._waits_for(verdict := self._judge(await self._look_up())):
            if time.monotonic() > until:
                raise StillRunning
            await asyncio.sleep(pause_s)
            pause_s = PAUSE_S if verdict.waits else min(pause_s * 1.5, _LONGEST_PAUSE_S)
        self._obey(verdict)

    async def _look_up(self) -> list[answers.Found]:
        return await answers.look_up(self._memory.database, self._call, self._now())

    def _waits_for(self, verdict: Verdict) -> bool:
        # The word that a call lost its caller may be this call's own.
        return verdict.waits or (verdict.is_abandoned and not self._is_abandoned)

    def guard(self, db: TenantDatabase) -> None:
        """Look once more when the transaction begins, and keep equal calls out of it."""
        db.open_with(self._open)

    async def remember(self, db: TenantDatabase, outcome: Outcome) -> None:
        """Keep the answer, in the transaction of the write."""
        self._db = db
        status: answers.Status = "undelivered" if self._is_abandoned else "committed"
        sealed = answers.seal(self._memory.ring, self._call, outcome.kept())
        self._answer_id = await answers.keep(db, self._call, sealed, status, self._now())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_to_delivery(ended_well=kind is None)
        if self._mark is not None:
            self._memory.fates.unmark(self._mark)
        if self._run is not None:
            self._memory.runs.end(self._run)
        if self._refusal is not None and isinstance(error, Exception) and error is not self._refusal:
            raise self._refusal from error  # the tool made another error of it

    async def _join(self, until: float) -> None:
        """Wait for a call that this one belongs to."""
        while (run := self._memory.runs.ahead_of(self._call)) is not None:
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await run.ended.wait()
            except TimeoutError:
                raise StillRunning from None

    @property
    def _is_abandoned(self) -> bool:
        return self._run is not None and self._run.is_abandoned

    def _listen(self) -> None:
        if self._delivery is not None:
            self._delivery.on_abandoned = self._abandon
            if self._delivery.is_abandoned:
                self._abandon()

    def _abandon(self) -> None:
        if self._run is not None and self._mark is None:
            self._run.is_abandoned = True
            self._mark = self._memory.fates.mark(self._call)

    def _open(self, connection: sa.Connection) -> None:
        """Begin the transaction: its first statement tries the locks and looks for an answer."""
        if self._refusal is None:
            try:
                self._look_within(connection)
            except (Repeated, KeyReused, StillRunning) as refusal:
                self._refusal = refusal
        if self._refusal is not None:
            raise self._refusal

    def _look_within(self, connection: sa.Connection) -> None:
        # Waits are the database's, because this runs below the driver: a transaction stands still in them anyway.
        is_exact = self._call.key is not None or self._call.state is not None
        began, has_waited = time.monotonic(), False
        # Whether a commit is under way is asked before each look, so that one that has just ended is seen by it.
        is_committing = False
        has_lock, rows = answers.look_up_within(connection, self._call, self._now(), lock=True)
        while not has_lock and not (verdict := self._judge(rows)).first:
            waits = self._goes_on_waiting(verdict, is_exact=is_exact, waited_s=time.monotonic() - began)
            # A commit that is under way comes through, even where its process was killed.
            if not waits and not is_committing and has_waited:
                return
            has_waited = True
            connection.execute(_PAUSE)
            is_committing = answers.is_committing(connection, self._call)
            has_lock, rows = answers.look_up_within(connection, self._call, self._now(), lock=True)
        if has_lock:  # what was found is older than the lock
            _, rows = answers.look_up_within(connection, self._call, self._now())
        while (verdict := self._judge(rows)).waits:
            connection.execute(_PAUSE)
            _, rows = answers.look_up_within(connection, self._call, self._now())
        self._obey(verdict)

    def _goes_on_waiting(self, verdict: Verdict, *, is_exact: bool, waited_s: float) -> bool:
        """Whether to wait for the equal call that is in the way; else this one runs beside it.

        Raises `StillRunning` after a long time, and where nobody waits for this one: the other has a caller.
        """
        if self._is_abandoned and not is_exact:
            raise StillRunning
        ahead = self._memory.runs.ahead_of(self._call)
        if is_exact or verdict.is_abandoned or (ahead is not None and ahead is not self._run):
            if waited_s > self._patience.total_seconds():
                raise StillRunning
            return True
        return waited_s < _GRACE_S and not self._memory.runs.has_twin(self._call, but=self._run)

    def _judge(self, rows: list[answers.Found]) -> Verdict:
        return judge(self._call, rows, self._memory.fates.decided, self._now(), self._patience)

    def _obey(self, verdict: Verdict) -> None:
        if verdict.is_other:
            raise KeyReused
        if verdict.first is not None:
            self._repeat(verdict.first)

    def _repeat(self, first: answers.Found) -> NoReturn:
        kept = answers.unseal(self._memory.ring, self._call, first)
        raise Repeated(Outcome.replayed(kept, first.created_at))

    def _leave_to_delivery(self, *, ended_well: bool) -> None:
        """Let whoever writes the answer tell its fate. What was cancelled after its commit has no answer to write."""
        delivery, fates = self._delivery, self._memory.fates
        if delivery is not None:
            delivery.on_abandoned = None
        answer_id = self._answer_id
        if answer_id is None or self._db is None:
            return  # nothing was written
        if not (ended_well and self._db.is_committed):
            fates.decide(answer_id, delivered=False)  # also where the database went away in the commit
        elif delivery is None:
            fates.decide(answer_id, delivered=True)
        else:
            delivery.on_settled = lambda delivered: fates.decide(answer_id, delivered=delivered)

    def _now(self) -> datetime:
        return self._memory.clock()
