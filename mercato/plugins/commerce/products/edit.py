"""The tool that edits a product's texts and state."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field
from sqlmodel import col, select

from mercato import Reply, ToolContext, ToolError, utc_now
from mercato.plugins.commerce.absent import no_such
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.models import Product
from mercato.plugins.commerce.params import ProductId, ProductStatus

_SHOWN = 200


class EditedProduct(BaseModel):
    """The product after the edit."""

    id: int
    title: str
    status: ProductStatus
    updated_at: datetime


class UpdatedField(BaseModel):
    """A field that changed; long texts are cut here, not in the product."""

    field: str
    old: str | None
    new: str | None


class ProductUpdate(BaseModel):
    """What changed."""

    success: bool = True
    message: str
    product: EditedProduct
    updated_fields: list[UpdatedField]


@commerce.tool(read_only=False, idempotent=True)
async def update_product(
    ctx: ToolContext,
    product_id: ProductId,
    title: Annotated[str | None, Field(min_length=1, max_length=255, description="The new title.")] = None,
    description: Annotated[str | None, Field(max_length=50_000, description="The new text.")] = None,
    status: Annotated[ProductStatus | None, Field(description="draft, active (for sale) or archived.")] = None,
    vendor: Annotated[str | None, Field(max_length=255, description="The new vendor.")] = None,
    product_type: Annotated[str | None, Field(max_length=255, description="The new type.")] = None,
    seo_title: Annotated[str | None, Field(max_length=255, description="Title for search engines.")] = None,
    seo_description: Annotated[str | None, Field(max_length=1_000, description="Text for search engines.")] = None,
) -> Reply[ProductUpdate]:
    """Edit a product's texts or state: what is given is set, an empty text clears the field (not the title).

    Stock is `update_inventory`. The answer lists what really changed.
    """
    wanted = {
        "title": title,
        "description": description,
        "status": status,
        "vendor": vendor,
        "product_type": product_type,
        "seo_title": seo_title,
        "seo_description": seo_description,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given:
        raise ToolError("Nothing to change was given.", next_step=f"Give at least one of {', '.join(wanted)}.")
    product = await _lock_product(ctx, product_id)
    updated = _apply(product, given)
    await ctx.db.session.flush()
    return Reply(_answer(product, updated), changed=[f"mercato://products/{product_id}"] if updated else [])


async def _lock_product(ctx: ToolContext, product_id: int) -> Product:
    statement = select(Product).where(col(Product.id) == product_id).with_for_update()
    product = (await ctx.db.session.exec(statement)).first()
    if product is None:
        raise no_such("product", product_id)
    return product


def _apply(product: Product, given: dict[str, str]) -> list[UpdatedField]:
    updated = []
    for name, text in given.items():
        old: str | None = getattr(product, name)
        new = text if text or name == "description" else None
        if new != old:
            setattr(product, name, new)
            updated.append(UpdatedField(field=name, old=_shown(old), new=_shown(new)))
    if updated:
        product.updated_at = utc_now()
    return updated


def _answer(product: Product, updated: list[UpdatedField]) -> ProductUpdate:
    names = ", ".join(field.field for field in updated)
    return ProductUpdate(
        message=f"Changed {names} of {product.title!r}." if updated else "It was so already; nothing was changed.",
        product=EditedProduct.model_validate(product, from_attributes=True),
        updated_fields=updated,
    )


def _shown(text: str | None) -> str | None:
    return text if text is None or len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
