"""The tool that finds products."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col

from mercato import Cursor, Limit, ToolContext
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.listing import Listing, contains, same_text
from mercato.plugins.commerce.models import Product, Variant
from mercato.plugins.commerce.params import ProductStatus
from mercato.plugins.commerce.products.figures import figures_of, has_stock

_COLUMNS = ("id", "title", "handle", "vendor", "product_type", "status", "currency", "created_at")


class ProductSummary(BaseModel):
    """A product in short. Prices are those of its cheapest variant."""

    id: int
    title: str
    handle: str
    vendor: str | None
    product_type: str | None
    status: ProductStatus
    price_minor: int | None
    compare_at_price_minor: int | None
    currency: str
    inventory_quantity: int | None = Field(description="None where stock is not tracked.")
    featured_image_url: str | None
    variants_count: int
    created_at: datetime


class ProductPage(BaseModel):
    """A page of products, newest first."""

    products: list[ProductSummary]
    total_count: int
    next_cursor: str | None


@commerce.tool(read_only=True)
async def list_products(
    ctx: ToolContext,
    query: Annotated[
        str | None, Field(min_length=1, max_length=200, description="A text in the title, handle or a SKU.")
    ] = None,
    status: Annotated[ProductStatus | None, Field(description="Only products in this state.")] = None,
    vendor: Annotated[str | None, Field(max_length=200, description="The whole name, in any case.")] = None,
    product_type: Annotated[str | None, Field(max_length=200, description="The whole type, in any case.")] = None,
    in_stock: Annotated[bool | None, Field(description="Whether a variant has stock, or is not tracked.")] = None,
    limit: Limit = 10,
    cursor: Cursor = None,
) -> ProductPage:
    """Find products, newest first, by a text and any mix of filters.

    For variants and texts use `get_product`; for what runs low `get_inventory`.
    """
    where: list[sa.ColumnElement[bool]] = []
    if query is not None:
        where.append(sa.or_(contains(query, Product.title, Product.handle), _has_sku(query)))
    if status is not None:
        where.append(col(Product.status) == status)
    if vendor is not None:
        where.append(same_text(Product.vendor, vendor))
    if product_type is not None:
        where.append(same_text(Product.product_type, product_type))
    if in_stock is not None:
        where.append(has_stock() if in_stock else ~has_stock())
    listing = _listing((query, status, vendor, product_type, in_stock), where)
    page = await listing.page(ctx, cursor, limit)
    return ProductPage(
        products=[ProductSummary.model_validate(row, from_attributes=True) for row in page.rows],
        total_count=page.total_count,
        next_cursor=page.next_cursor,
    )


def _listing(filters: tuple[object, ...], where: list[sa.ColumnElement[bool]]) -> Listing:
    figures = figures_of(col(Product.id))
    columns = (col(getattr(Product, name)) for name in _COLUMNS)
    featured = sa.type_coerce(col(Product.image_urls), sa.ARRAY(sa.Text))[1].label("featured_image_url")
    return Listing(
        name="list_products",
        filters=filters,
        show=sa.select(*columns, featured, figures).select_from(Product).outerjoin(figures, sa.true()),
        counted=Product,
        where=where,
        key=col(Product.created_at),
        id=col(Product.id),
    )


def _has_sku(query: str) -> sa.ColumnElement[bool]:
    return col(Product.id).in_(sa.select(col(Variant.product_id)).where(contains(query, Variant.sku)))
