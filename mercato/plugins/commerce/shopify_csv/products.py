"""Products: the rows of Shopify's products export -> products with their variants.

The first row of a product has all of it and its first variant; the others a variant each, or just one more image. Both
headers that Shopify writes are understood, the one of `Handle` and `Variant Price` and the one of `URL handle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from mercato.plugins.commerce.bulk.products import StagedProduct, StagedVariant
from mercato.plugins.commerce.bulk.staging import Json
from mercato.plugins.commerce.models import PRODUCT_STATUSES
from mercato.plugins.commerce.shopify_csv.cells import (
    DESCRIPTION_MAX,
    BadCell,
    bare,
    boolean,
    line,
    money,
    names,
    note,
    optional_money,
    shown,
    whole,
)
from mercato.plugins.commerce.shopify_csv.columns import Columns

URL_MAX = 2_000
NO_OPTIONS = "Default Title"  # Shopify's name for the one variant of a product without options
_POLICIES = {"": "deny", "deny": "deny", "continue": "continue", "false": "deny", "true": "continue"}


class ProductCells(NamedTuple):
    """The columns of a product's first row; the other rows use those of a variant and the image."""

    title: str
    url_handle: str
    description: str
    vendor: str
    type: str
    tags: str
    published_on_online_store: str
    status: str
    sku: str
    barcode: str
    option1_name: str
    option1_value: str
    option2_name: str
    option2_value: str
    option3_name: str
    option3_value: str
    price: str
    compare_at_price: str
    inventory_tracker: str
    inventory_quantity: str
    continue_selling_when_out_of_stock: str
    product_image_url: str
    seo_title: str
    seo_description: str

    @property
    def option_names(self) -> list[str]:
        """The names of the options, as far as the product has any."""
        given = (line(name) for name in (self.option1_name, self.option2_name, self.option3_name))
        return [name for name in given if name]

    @property
    def option_values(self) -> list[str]:
        """What the variant is, by option; none for the one variant of a product without options."""
        given = (line(value) for value in (self.option1_value, self.option2_value, self.option3_value))
        values = [value for value in given if value]
        return [] if values == [NO_OPTIONS] else values

    @property
    def has_variant(self) -> bool:
        """Whether the row has more than an image."""
        return any(map(str.strip, (self.option1_value, self.price, self.sku)))


PRODUCT = Columns(
    kind="products",
    cells=ProductCells,
    needed=("URL handle", "Title", "Price"),
    older={
        "url_handle": ("Handle",),
        "description": ("Body (HTML)",),
        "published_on_online_store": ("Published",),
        "sku": ("Variant SKU",),
        "barcode": ("Variant Barcode",),
        "price": ("Variant Price",),
        "compare_at_price": ("Variant Compare At Price",),
        "inventory_tracker": ("Variant Inventory Tracker",),
        "inventory_quantity": ("Variant Inventory Qty",),
        "continue_selling_when_out_of_stock": ("Variant Inventory Policy",),
        "product_image_url": ("Image Src",),
    },
)


def product_of(at: int, rows: Sequence[ProductCells], currency: str) -> StagedProduct:
    """Return the product whose first row stands at line `at`. Raises `BadCell`, which is about that row."""
    first = rows[0]
    title = line(first.title)
    if title is None:
        raise BadCell("Title is empty")
    status, is_published = _status(first)
    images = (line(row.product_image_url, URL_MAX) for row in rows)
    return StagedProduct(
        line=at,
        handle=bare(first.url_handle) or "",
        title=title,
        description=note(first.description, DESCRIPTION_MAX) or "",
        vendor=line(first.vendor),
        product_type=line(first.type),
        status=status,
        currency=currency,
        tags=names(first.tags),
        options=_options(rows),
        image_urls=list(dict.fromkeys(image for image in images if image)),
        seo_title=line(first.seo_title),
        seo_description=note(first.seo_description),
        is_published=is_published,
    )


def variant_of(product: int, position: int, cells: ProductCells, exponent: int) -> StagedVariant:
    """Return a variant of the product at line `product`. Raises `BadCell`."""
    policy = _POLICIES.get(cells.continue_selling_when_out_of_stock.strip().lower())
    if policy is None:
        raise BadCell(f"the inventory policy {shown(cells.continue_selling_when_out_of_stock)} is unknown")
    values = cells.option_values
    quantity = cells.inventory_quantity
    return StagedVariant(
        product_line=product,
        position=position,
        title=" / ".join(values) or NO_OPTIONS,
        sku=bare(cells.sku),
        barcode=bare(cells.barcode),
        option_values=values,
        price_minor=money(cells.price, exponent, "Price"),
        compare_at_price_minor=optional_money(cells.compare_at_price, exponent, "Compare-at price"),
        inventory_tracked=bool(cells.inventory_tracker.strip()),
        inventory_quantity=whole(quantity, "Inventory quantity", lowest=-(2**31)) if quantity.strip() else None,
        inventory_policy=policy,
    )


def _status(cells: ProductCells) -> tuple[str, bool]:
    """Return the status and whether it is published: each tells of the other where the export has but one."""
    status = cells.status.strip().lower()
    published = cells.published_on_online_store.strip()
    is_published = boolean(published, "Published") if published else status in {"", "active"}
    if status == "unlisted":  # sold to who has the link
        status = "active"
    status = status or ("active" if is_published else "draft")
    if status not in PRODUCT_STATUSES:
        raise BadCell(f"Status {shown(cells.status)} is unknown: {', '.join(PRODUCT_STATUSES)}")
    return status, is_published


def _options(rows: Sequence[ProductCells]) -> Json:
    variants = [values for row in rows if (values := row.option_values)]
    if not variants:
        return Json("[]")
    named = enumerate(rows[0].option_names)
    options = [
        {"name": name, "values": list(dict.fromkeys(values[place] for values in variants if place < len(values)))}
        for place, name in named
    ]
    return Json(orjson.dumps(options).decode())
