"""The tool that reads stock levels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col

from mercato import Cursor, Limit, ToolContext, ToolError
from mercato.plugins.commerce.absent import no_such
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.listing import Listing
from mercato.plugins.commerce.models import Product, Variant
from mercato.plugins.commerce.params import MOST_ID, MOST_UNITS, ProductStatus
from mercato.plugins.commerce.products.figures import figures_of
from mercato.plugins.commerce.settings import CommerceSettings

_VARIANTS_OF_EACH = 10


class VariantStock(BaseModel):
    """A tracked variant's stock."""

    id: int
    title: str
    sku: str | None
    inventory_quantity: int


class ProductStock(BaseModel):
    """A product's stock: that of all its tracked variants together."""

    id: int
    product_id: int
    title: str
    handle: str
    status: ProductStatus
    total_inventory: int
    inventory_policy: Literal["deny", "continue", "mixed"]
    variants_count: int
    low_stock: bool
    variants: list[VariantStock] | None = Field(
        description="With `variants: true`: the 10 lowest; `get_product` has all."
    )


class InventoryPage(BaseModel):
    """A page of stock, lowest first."""

    inventory: list[ProductStock]
    total_count: int
    low_stock_threshold: int
    next_cursor: str | None


@commerce.tool(read_only=True)
async def get_inventory(
    ctx: ToolContext,
    product_id: Annotated[int | None, Field(ge=1, le=MOST_ID, description="Only this product.")] = None,
    low_stock_threshold: Annotated[
        int | None,
        Field(ge=0, le=MOST_UNITS, description="Only so many units or fewer. Absent: all, marked by the tenant's own."),
    ] = None,
    status: Annotated[ProductStatus | None, Field(description="Only products in this state.")] = None,
    variants: Annotated[bool, Field(description="Show each product's variants too.")] = False,
    limit: Limit = 10,
    cursor: Cursor = None,
) -> InventoryPage:
    """Read stock levels of products, lowest first, to see what runs low; what is not tracked is left out.

    To change stock use `update_inventory`.
    """
    listing = _listing(product_id, low_stock_threshold, status)
    page = await listing.page(ctx, cursor, limit)
    if product_id is not None and not page.total_count:
        await _explain_absence(ctx, product_id)
    shown = await _variants(ctx, [row.id for row in page.rows]) if variants else None
    threshold = low_stock_threshold
    if threshold is None:
        threshold = ctx.settings(CommerceSettings).low_stock_threshold
    return InventoryPage(
        inventory=[_product_stock(row, threshold, shown) for row in page.rows],
        total_count=page.total_count,
        low_stock_threshold=threshold,
        next_cursor=page.next_cursor,
    )


def _listing(product_id: int | None, at_most: int | None, status: ProductStatus | None) -> Listing:
    figures = figures_of(col(Product.id))
    stock = sa.type_coerce(figures.c.inventory_quantity, sa.BigInteger)
    where: list[sa.ColumnElement[bool]] = [stock.is_not(None)]
    if product_id is not None:
        where.append(col(Product.id) == product_id)
    if at_most is not None:
        where.append(stock <= at_most)
    if status is not None:
        where.append(col(Product.status) == status)
    joined = sa.join(Product, figures, sa.true())
    columns = (col(Product.id), col(Product.title), col(Product.handle), col(Product.status))
    return Listing(
        name="get_inventory",
        filters=(product_id, at_most, status),
        show=sa.select(*columns, figures).select_from(joined),
        counted=joined,
        where=where,
        key=stock,
        id=col(Product.id),
        ascending=True,
    )


async def _explain_absence(ctx: ToolContext, product_id: int) -> None:
    """Return if the filters left the product out. Raises `ToolError` if it is not there, or not tracked at all."""
    tracked = sa.exists().where(col(Variant.product_id) == col(Product.id), col(Variant.inventory_tracked))
    rows = await ctx.db.rows(
        sa.select(tracked.label("tracked")).select_from(Product).where(col(Product.id) == product_id)
    )
    if not rows:
        raise no_such("product", product_id)
    if not rows[0].tracked:
        raise ToolError(
            f"Product {product_id} has no tracked variant, so there is no stock to report.", field="product_id"
        )


async def _variants(ctx: ToolContext, product_ids: Sequence[int]) -> dict[int, list[VariantStock]]:
    rank = sa.func.row_number().over(
        partition_by=col(Variant.product_id), order_by=(col(Variant.inventory_quantity), col(Variant.id))
    )
    ranked = (
        sa.select(Variant, rank.label("rank"))
        .where(col(Variant.product_id).in_(product_ids), col(Variant.inventory_tracked))
        .subquery()
    )
    statement = sa.select(ranked).where(ranked.c.rank <= _VARIANTS_OF_EACH).order_by(ranked.c.product_id, ranked.c.rank)
    of_product = defaultdict(list)
    for row in await ctx.db.rows(statement):
        of_product[row.product_id].append(VariantStock.model_validate(row, from_attributes=True))
    return of_product


def _product_stock(row: sa.Row[Any], threshold: int, variants: dict[int, list[VariantStock]] | None) -> ProductStock:
    return ProductStock.model_validate(
        {
            **row._mapping,
            "product_id": row.id,
            "total_inventory": row.inventory_quantity,
            "low_stock": row.inventory_quantity <= threshold,
            "variants": None if variants is None else variants[row.id],
        }
    )
