"""Runs: the writes that this process is at, so that one that is made again here need not ask the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from mercato.tools.replays import Fingerprint


@dataclass(slots=True, eq=False)
class Run:
    """One write under way. `is_abandoned`: nobody waits for its answer any more."""

    call: Fingerprint
    is_abandoned: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Runs:
    """The writes under way, by each digest that they are known by."""

    def __init__(self) -> None:
        self._runs: dict[bytes, list[Run]] = {}

    def begin(self, call: Fingerprint) -> Run:
        """Note that a write begins."""
        run = Run(call)
        for digest in _digests(call):
            self._runs.setdefault(digest, []).append(run)
        return run

    def end(self, run: Run) -> None:
        """Note that it has come to its end, and let those go on who wait for it."""
        for digest in _digests(run.call):
            runs = self._runs[digest]
            runs.remove(run)
            if not runs:
                del self._runs[digest]
        run.ended.set()

    def ahead_of(self, call: Fingerprint) -> Run | None:
        """Return a run to wait for: one with the same key or request state, or an equal one that lost its caller."""
        for digest in (call.key, call.state):
            if digest is not None and digest in self._runs:
                return self._runs[digest][0]
        if call.key is not None:
            return None
        return next((run for run in self._runs.get(call.digest, ()) if run.is_abandoned), None)

    def has_twin(self, call: Fingerprint, *, but: Run | None) -> bool:
        """Whether an equal write is under way here, besides one, that has its caller."""
        return any(run is not but and not run.is_abandoned for run in self._runs.get(call.digest, ()))


def _digests(call: Fingerprint) -> Iterator[bytes]:
    return (digest for digest in (call.digest, call.key, call.state) if digest is not None)
