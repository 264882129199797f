"""The tool that changes stock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col

from mercato import Reply, ToolContext, ToolError, utc_now
from mercato.plugins.commerce.absent import no_such
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.events import StockRanLow, stock_ran_low
from mercato.plugins.commerce.inventory.levels import VariantStock
from mercato.plugins.commerce.models import Product, Variant
from mercato.plugins.commerce.params import MOST_ID, MOST_UNITS, ProductId
from mercato.plugins.commerce.settings import CommerceSettings
from mercato.plugins.commerce.stock import Stock, change_stock
from mercato.plugins.commerce.untrusted import clean_line

_MOST_NAMED = 25


class StockedProduct(BaseModel):
    """Whose stock it is."""

    id: int
    title: str


class StockChange(BaseModel):
    """Units before, now, and the difference."""

    previous: int
    new: int
    change: int


class InventoryUpdate(BaseModel):
    """What became of the stock."""

    success: bool = True
    message: str
    product: StockedProduct
    variant: VariantStock
    inventory: StockChange
    reason: str
    updated_at: datetime


@commerce.tool(read_only=False)
async def update_inventory(
    ctx: ToolContext,
    product_id: ProductId,
    variant_id: Annotated[
        int | None, Field(ge=1, le=MOST_ID, description="Needed where the product has several variants.")
    ] = None,
    quantity: Annotated[int | None, Field(ge=0, le=MOST_UNITS, description="The stock to set.")] = None,
    adjustment: Annotated[
        int | None, Field(ge=-MOST_UNITS, le=MOST_UNITS, description="Units to add; below 0 to take away.")
    ] = None,
    reason: Annotated[str, Field(min_length=1, max_length=200, description="Why; kept in the ledger.")] = "correction",
) -> Reply[InventoryUpdate]:
    """Set or adjust a variant's stock: give `quantity` after a count, `adjustment` for what came or went.

    Levels are in `get_inventory`; cancelling an order restocks by itself.
    """
    if (quantity is None) == (adjustment is None):
        raise ToolError("Give either `quantity` or `adjustment`, and not both.", field="quantity")
    rows = await ctx.db.rows(_select_variants(product_id, variant_id))
    variant = _the_one(rows, product_id, variant_id)
    reason = clean_line(reason) or "correction"
    stock = await change_stock(ctx, variant.id, quantity=quantity, adjustment=adjustment, reason=reason)
    if stock is None:
        raise await _refusal(ctx, variant, adjustment or 0)
    await _tell_if_low(ctx, variant, stock)
    return Reply(_answer(variant, stock, reason), changed=[f"mercato://products/{product_id}"] if stock.change else [])


async def _tell_if_low(ctx: ToolContext, variant: sa.Row[Any], stock: Stock) -> None:
    threshold = ctx.settings(CommerceSettings).low_stock_threshold
    if stock.previous > threshold >= stock.new:
        low = StockRanLow(
            product_id=variant.product_id,
            product=variant.product_title,
            variant_id=variant.id,
            variant=variant.title,
            units=stock.new,
            threshold=threshold,
        )
        await stock_ran_low.publish(ctx, low)


def _select_variants(product_id: int, variant_id: int | None) -> sa.Select[Any]:
    """Select the product with the variants that may be meant; one row without a variant where none is."""
    meant = col(Variant.product_id) == col(Product.id)
    if variant_id is not None:
        meant = sa.and_(meant, col(Variant.id) == variant_id)
    columns: list[Any] = [col(getattr(Variant, name)) for name in ("id", "title", "sku", "inventory_tracked")]
    columns += [col(Product.id).label("product_id"), col(Product.title).label("product_title")]
    return (
        sa.select(*columns)
        .select_from(Product)
        .outerjoin(Variant, meant)
        .where(col(Product.id) == product_id)
        .order_by(col(Variant.position))
        .limit(_MOST_NAMED + 1)
    )


def _the_one(rows: Sequence[sa.Row[Any]], product_id: int, variant_id: int | None) -> sa.Row[Any]:
    """Return the row of the variant that is meant. Raises `ToolError`, which lists the choices."""
    if not rows:
        raise no_such("product", product_id)
    if rows[0].id is None:
        what = "no variants" if variant_id is None else f"no variant {variant_id}"
        raise ToolError(
            f"Product {product_id} has {what}.", field="variant_id", next_step="`get_product` lists its variants."
        )
    if len(rows) > 1:
        raise ToolError(
            f"Product {product_id} has several variants: say which by `variant_id`.",
            field="variant_id",
            allowed=[f"{row.id} ({row.title})" for row in rows[:_MOST_NAMED]],
            next_step="`get_product` lists the rest." if len(rows) > _MOST_NAMED else None,
        )
    if not rows[0].inventory_tracked:
        raise ToolError(f"The stock of variant {rows[0].id} ({rows[0].title}) is not tracked.", field="variant_id")
    return rows[0]


async def _refusal(ctx: ToolContext, variant: sa.Row[Any], adjustment: int) -> ToolError:
    present = await ctx.db.rows(sa.select(col(Variant.inventory_quantity)).where(col(Variant.id) == variant.id))
    units = present[0][0] if present else 0
    limit = "below zero" if adjustment < 0 else f"above {MOST_UNITS:,}"
    return ToolError(
        f"{variant.product_title} ({variant.title}) has {units} in stock: {adjustment:+} would take it {limit}.",
        field="adjustment",
        next_step="Give a smaller `adjustment`, or set the `quantity` that was counted.",
    )


def _answer(variant: sa.Row[Any], stock: Stock, reason: str) -> InventoryUpdate:
    name = f"{variant.product_title} ({variant.title})"
    return InventoryUpdate(
        message=f"{name}: {stock.previous} before, {stock.new} now."
        if stock.change
        else f"{name} has {stock.new} already; nothing was changed.",
        product=StockedProduct(id=variant.product_id, title=variant.product_title),
        variant=VariantStock(id=variant.id, title=variant.title, sku=variant.sku, inventory_quantity=stock.new),
        inventory=StockChange(previous=stock.previous, new=stock.new, change=stock.change),
        reason=reason,
        updated_at=utc_now(),
    )
