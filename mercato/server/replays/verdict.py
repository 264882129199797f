"""Verdict: what is to be done about a call, by what is known of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mercato.tenancy.answers import Called, Found

UNDECIDED = timedelta(seconds=2)
"""After so long without a word about its answer, the process that wrote it is taken for dead."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a call: give the first answer, or wait, or neither.

    `waits`: for what becomes of an answer. `is_abandoned`: a running call has lost its caller. `is_other`: the key
    belongs to another call.
    """

    first: Found | None = None
    waits: bool = False
    is_abandoned: bool = False
    is_other: bool = False


def judge(
    call: Called, rows: Iterable[Found], decided: Mapping[int, bool], now: datetime, patience: timedelta
) -> Verdict:
    """Say what is to be done. `decided` is what this process knows already: whether an answer was delivered."""
    same, rows = [], list(rows)
    for row in rows:
        if row.status != "abandoned" and _is_exact(row, call):
            return Verdict(first=row) if row.fingerprint == call.digest else Verdict(is_other=True)
        if call.key is None and row.fingerprint == call.digest:
            same.append(row)
    for row in same:
        if _is_lost(row, decided, now):
            return Verdict(first=row)
    waits = any(row.status == "committed" and row.id not in decided for row in same)
    is_abandoned = any(row.status == "abandoned" and row.created_at > now - patience for row in same)
    return Verdict(waits=waits, is_abandoned=is_abandoned)


def _is_exact(row: Found, call: Called) -> bool:
    return (call.key is not None and row.key_digest == call.key) or (
        call.state is not None and row.state_digest == call.state
    )


def _is_lost(row: Found, decided: Mapping[int, bool], now: datetime) -> bool:
    if row.id in decided and row.status != "abandoned":
        return not decided[row.id]
    return row.status == "undelivered" or (row.status == "committed" and row.created_at <= now - UNDECIDED)
