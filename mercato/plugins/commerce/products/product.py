"""One product, as a tool and as a resource."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlmodel import col

from mercato import Cursor, Detail, ToolContext
from mercato.plugins.commerce.absent import no_such
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.listing import Listing, Page
from mercato.plugins.commerce.models import Product, Variant
from mercato.plugins.commerce.params import ProductId, ProductStatus
from mercato.plugins.commerce.products.figures import figures_of
from mercato.plugins.commerce.resource_ids import ids_beginning_with, read_id

_VARIANTS = 25
_CONCISE_DESCRIPTION = 500
_FULL_DESCRIPTION = 8_000
_MOST_IMAGES = 25


class ProductPricing(BaseModel):
    """The cheapest variant's price, and the dearest one's."""

    price_minor: int | None
    highest_price_minor: int | None
    compare_at_price_minor: int | None
    currency: str


class ProductInventory(BaseModel):
    """Stock of the tracked variants; None where none is. The policy says whether it may be sold beyond that."""

    quantity: int | None
    policy: Literal["deny", "continue", "mixed"]


class ProductImages(BaseModel):
    """Addresses of the pictures; `all` is empty unless `detail: full`."""

    featured: str | None
    all: list[str]
    count: int


class ProductSeo(BaseModel):
    """What search engines are shown."""

    title: str | None
    description: str | None


class ProductOption(BaseModel):
    """What variants differ in."""

    name: str
    values: list[str] = []


class VariantDetail(BaseModel):
    """One variant."""

    id: int
    title: str
    sku: str | None
    barcode: str | None
    option_values: list[str]
    price_minor: int
    compare_at_price_minor: int | None
    inventory_tracked: bool
    inventory_quantity: int
    inventory_policy: Literal["deny", "continue"]


class ProductDetail(BaseModel):
    """A product in full."""

    id: int
    external_id: str | None = Field(description="The id in the shop that the product came from.")
    title: str
    handle: str
    description: str
    description_length: int = Field(description="Of the whole text; `concise` cuts it.")
    vendor: str | None
    product_type: str | None
    status: ProductStatus
    pricing: ProductPricing
    inventory: ProductInventory
    images: ProductImages
    options: list[ProductOption]
    variants: list[VariantDetail]
    variants_count: int
    next_cursor: str | None = Field(description="Leads to the variants that follow.")
    seo: ProductSeo
    tags: list[str]
    published_at: datetime | None
    created_at: datetime
    updated_at: datetime


@commerce.tool(read_only=True)
async def get_product(
    ctx: ToolContext, product_id: ProductId, detail: Detail = "concise", cursor: Cursor = None
) -> ProductDetail:
    """Read one product: texts, prices, stock and variants (25 at a time); `detail: full` for all text and images.

    To find the id use `list_products`.
    """
    product = await read_product(ctx, product_id, detail, cursor)
    if product is None:
        raise no_such("product", product_id)
    return product


async def complete_product_id(ctx: ToolContext, prefix: str) -> list[str]:
    """Return the ids of the newest products that begin so."""
    return await ids_beginning_with(ctx, prefix, col(Product.id), col(Product.created_at))


@commerce.resource("mercato://products/{product_id}", title="Product", complete={"product_id": complete_product_id})
async def product(ctx: ToolContext, product_id: str) -> ProductDetail:
    """One product in full, as `get_product` gives it."""
    found = await read_product(ctx, read_id(product_id), "full")
    if found is None:
        raise LookupError(product_id)
    return found


async def read_product(
    ctx: ToolContext, product_id: int, detail: Literal["concise", "full"], cursor: str | None = None
) -> ProductDetail | None:
    """Return the product with a page of its variants; None where there is none."""
    figures = figures_of(col(Product.id))
    statement = sa.select(Product, figures).select_from(Product).outerjoin(figures, sa.true())
    rows = await ctx.db.rows(statement.where(col(Product.id) == product_id))
    if not rows:
        return None
    variants = await _variants(product_id).page(ctx, cursor, _VARIANTS)
    return ProductDetail.model_validate(
        {**rows[0]._mapping, **_parts(rows[0], full=detail == "full"), **_variant_items(variants)}
    )


def _variants(product_id: int) -> Listing:
    return Listing(
        name="get_product",
        filters=(product_id,),
        show=sa.select(*(col(getattr(Variant, name)) for name in VariantDetail.model_fields)),
        counted=Variant,
        where=[col(Variant.product_id) == product_id],
        key=col(Variant.position),
        id=col(Variant.id),
        ascending=True,
    )


def _parts(row: sa.Row[Any], *, full: bool) -> dict[str, Any]:
    images = row.image_urls
    return {
        "description": _cut(row.description, _FULL_DESCRIPTION if full else _CONCISE_DESCRIPTION),
        "description_length": len(row.description),
        "pricing": ProductPricing.model_validate(row, from_attributes=True),
        "inventory": ProductInventory(quantity=row.inventory_quantity, policy=row.inventory_policy),
        "images": ProductImages(
            featured=next(iter(images), None), all=images[:_MOST_IMAGES] if full else [], count=len(images)
        ),
        "seo": ProductSeo(title=row.seo_title, description=row.seo_description),
    }


def _variant_items(variants: Page) -> dict[str, Any]:
    return {
        "variants": [VariantDetail.model_validate(variant, from_attributes=True) for variant in variants.rows],
        "next_cursor": variants.next_cursor,
    }


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
