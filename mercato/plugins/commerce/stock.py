"""Stock: changed in the database in one step, with a line in the ledger for each change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import col, select

from mercato import ToolContext, utc_now
from mercato.plugins.commerce.models import StockMovement, Variant
from mercato.plugins.commerce.params import MOST_UNITS


@dataclass(frozen=True, slots=True)
class Stock:
    """A variant's stock before and after a change."""

    previous: int
    new: int

    @property
    def change(self) -> int:
        """The difference."""
        return self.new - self.previous


async def change_stock(
    ctx: ToolContext, variant_id: int, *, quantity: int | None, adjustment: int | None, reason: str
) -> Stock | None:
    """Set or adjust the stock of a tracked variant, in one statement; None where it would not fit.

    It takes stock neither below zero nor above `MOST_UNITS`; what an import left beyond either may come nearer.
    """
    statement = _change(variant_id, quantity, adjustment)
    row = (await ctx.db.session.exec(statement, execution_options={"synchronize_session": False})).first()
    if row is None:
        return None
    stock = Stock(*row)
    if stock.change:
        _record(ctx, variant_id, stock, reason)
    return stock


async def restock(ctx: ToolContext, units: Mapping[int, int], reason: str) -> dict[int, Variant]:
    """Put units back to the tracked ones of these variants, and return those as they are now."""
    # Held in the order of their ids, so that two calls cannot wait for each other.
    tracked = select(Variant).where(col(Variant.id).in_(units), col(Variant.inventory_tracked))
    variants = (await ctx.db.session.exec(tracked.order_by(col(Variant.id)).with_for_update())).all()
    for variant in variants:
        previous = variant.inventory_quantity
        variant.inventory_quantity += units[variant.id]
        variant.updated_at = utc_now()
        _record(ctx, variant.id, Stock(previous, variant.inventory_quantity), reason)
    await ctx.db.session.flush()
    return {variant.id: variant for variant in variants}


def _change(variant_id: int, quantity: int | None, adjustment: int | None) -> sa.UpdateBase:
    before = (
        sa.select(col(Variant.id), col(Variant.inventory_quantity).label("quantity"))
        .where(col(Variant.id) == variant_id, col(Variant.inventory_tracked))
        .with_for_update()
        .subquery("before")
    )
    # bigint, so that what does not fit is refused here and not by the type of the column.
    present = sa.cast(before.c.quantity, sa.BigInteger)
    after = present + (adjustment or 0) if quantity is None else sa.literal(quantity, sa.BigInteger())
    fits = sa.and_(sa.or_(after >= 0, after > present), sa.or_(after <= MOST_UNITS, after < present))
    return (
        sa.update(Variant)
        .where(col(Variant.id) == before.c.id, fits)
        .values(inventory_quantity=after, updated_at=utc_now())
        .returning(before.c.quantity, col(Variant.inventory_quantity))
    )


def _record(ctx: ToolContext, variant_id: int, stock: Stock, reason: str) -> None:
    ctx.db.session.add(
        StockMovement(
            variant_id=variant_id,
            change=stock.change,
            quantity_after=stock.new,
            reason=reason,
            user_id=ctx.user.user_id,
        )
    )
