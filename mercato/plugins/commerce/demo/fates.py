"""Fates: what became of an order. Its statuses, its times and what was paid back agree with one another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

_REASONS = ("customer", "inventory", "fraud", "declined")


@dataclass(frozen=True, slots=True)
class Fate:
    """The statuses of an order, and what goes with them."""

    status: str
    fulfillment: str = "unfulfilled"
    financial: str = "paid"
    refunded: int = 0
    fulfilled_at: datetime | None = None
    cancelled_at: datetime | None = None
    cancel_reason: str | None = None


def fate_of(chance: Random, at: datetime, age: timedelta, total: int, lines: int) -> Fate:
    """Return the fate of an order of this age: new ones wait, old ones have arrived, few are called off."""
    luck = chance.random()
    if luck < 0.03 and age > timedelta(hours=12):
        return _cancelled(chance, at, total)
    if luck < 0.045 and age < timedelta(days=20):
        return Fate("pending", financial=chance.choice(("pending", "authorized", "partially_paid")))
    if age < timedelta(days=2):
        return Fate("processing" if luck > 0.7 else "confirmed")
    if age < timedelta(days=5) and lines > 1 and luck > 0.6:
        return Fate("processing", "partial")
    if age < timedelta(days=3):
        return Fate("confirmed")
    fulfilled_at = at + timedelta(hours=chance.randint(8, 60))
    if luck > 0.98 and age > timedelta(days=12) and total:
        return Fate("refunded", "fulfilled", "refunded", total, fulfilled_at)
    status = "delivered" if age > timedelta(days=9) else "shipped"
    if luck > 0.945 and age > timedelta(days=12) and total > 1:
        return Fate(status, "fulfilled", "partially_refunded", chance.randint(1, total // 2), fulfilled_at)
    return Fate(status, "fulfilled", fulfilled_at=fulfilled_at)


def _cancelled(chance: Random, at: datetime, total: int) -> Fate:
    was_paid = chance.random() < 0.6 and total > 0
    return Fate(
        "cancelled",
        financial="refunded" if was_paid else "voided",
        refunded=total if was_paid else 0,
        cancelled_at=at + timedelta(minutes=chance.randint(5, 600)),
        cancel_reason=chance.choice(_REASONS),
    )
