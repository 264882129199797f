"""The ledger of the demo store's stock: an opening for every variant, and for a few how it went on since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.staging import run, stage
from mercato.plugins.commerce.demo.people import DAYS
from mercato.plugins.commerce.demo.shelf import Shelved

_REASONS = ("received", "stocktake", "damaged", "sold at the market", "returned")
_PUT = """
insert into commerce.stock_movements (variant_id, change, quantity_after, reason, at)
select v.id, s.change, s.quantity_after, s.reason, s.at
from staged_movements s join commerce.variants v on v.sku = s.sku
order by s.at, v.id
"""


class StagedMovement(NamedTuple):
    """A change of the stock of the variant with this SKU."""

    sku: str
    change: int
    quantity_after: int
    reason: str
    at: datetime


async def put_movements(session: AsyncSession, movements: Sequence[StagedMovement]) -> int:
    """Write movements to the ledger; return how many."""
    await stage(session, "staged_movements", StagedMovement, movements, "sku")
    return await run(session, _PUT)


def movements(chance: Random, shelf: Sequence[Shelved], start: datetime) -> Iterator[StagedMovement]:
    """Yield the movements of every variant; they end at what it has in stock."""
    for one in shelf:
        for variant in one.variants:
            quantity = variant.inventory_quantity or 0
            later = 3 if one.product.line % 8 == 0 else 0
            levels = [*(chance.randint(5, 200) for _ in range(later)), quantity]
            yield from _movements(chance, variant.sku or "", levels, start)


def _movements(chance: Random, sku: str, levels: Sequence[int], start: datetime) -> Iterator[StagedMovement]:
    before = 0
    for number, level in enumerate(levels):
        if level != before:
            at = start + timedelta(days=DAYS * number // 4, seconds=chance.randrange(86_400))
            yield StagedMovement(
                sku, level - before, level, "opening stock" if not before else chance.choice(_REASONS), at
            )
        before = level
