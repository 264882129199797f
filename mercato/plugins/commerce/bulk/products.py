"""Products with their variants, many at a time: a product is found by its handle, a variant by its options.

Variants that are not named stay, behind the others. A change of stock is written to the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.staging import Json, run, stage


class StagedProduct(NamedTuple):
    """A product. `line` is where it was read."""

    line: int
    handle: str
    title: str
    description: str
    vendor: str | None
    product_type: str | None
    status: str
    currency: str
    tags: list[str]
    options: Json
    image_urls: list[str]
    seo_title: str | None
    seo_description: str | None
    is_published: bool


class StagedVariant(NamedTuple):
    """A variant of the product that was read at `product_line`. A quantity that is not known is left as it is."""

    product_line: int
    position: int
    title: str
    sku: str | None
    barcode: str | None
    option_values: list[str]
    price_minor: int
    compare_at_price_minor: int | None
    inventory_tracked: bool
    inventory_quantity: int | None
    inventory_policy: str


class PutProducts(NamedTuple):
    """What became of products and their variants."""

    products_new: int
    products_updated: int
    products_unchanged: int
    variants_new: int
    variants_updated: int


_PRODUCT = StagedProduct._fields[1:-1]
_VARIANT = [name for name in StagedVariant._fields[1:] if name != "inventory_quantity"]

_MATCH = """
create temporary table matched_products on commit drop as
select s.line, s.handle, p.id as found_id, p.id as product_id
from staged_products s left join commerce.products p on p.handle = s.handle
"""
# Since when a product is published no export says; since we first saw it so.
_UPDATE = f"""
update commerce.products p
set {", ".join(f"{name} = s.{name}" for name in _PRODUCT)},
    published_at = case when s.is_published then coalesce(p.published_at, now()) end, updated_at = now()
from staged_products s join matched_products m using (line)
where p.id = m.found_id
  and ({", ".join(f"p.{name}" for name in _PRODUCT)}, p.published_at is not null)
      is distinct from ({", ".join(f"s.{name}" for name in _PRODUCT)}, s.is_published)
"""
_INSERT = f"""
with made as (
    insert into commerce.products ({", ".join(_PRODUCT)}, published_at)
    select {", ".join(f"s.{name}" for name in _PRODUCT)}, case when s.is_published then now() end
    from staged_products s join matched_products m using (line)
    where m.found_id is null
    order by s.line
    returning id, handle
)
update matched_products m set product_id = made.id from made where made.handle = m.handle
"""
_MATCH_VARIANTS = """
create temporary table matched_variants on commit drop as
select s.product_line, s.position, v.id as found_id, m.product_id, s.option_values,
       coalesce(v.inventory_quantity, 0) as old_quantity,
       coalesce(s.inventory_quantity, v.inventory_quantity, 0) as inventory_quantity
from staged_variants s
join matched_products m on m.line = s.product_line
left join lateral (
    select v.id, v.inventory_quantity from commerce.variants v
    where v.product_id = m.found_id and v.option_values = s.option_values
    order by v.position limit 1
) v on true
"""
_PLACES = """
select v.id, coalesce(m.position, named.last + row_number() over (
           partition by v.product_id, m.position is null order by abs(v.position), v.id)) as position
from commerce.variants v
join (select product_id, max(position) as last from matched_variants group by 1) named using (product_id)
left join matched_variants m on m.found_id = v.id
"""
# A position is taken until its holder has left it, so that all who move step aside first.
_STEP_ASIDE = f"""
update commerce.variants v set position = -v.position
from ({_PLACES}) place where place.id = v.id and place.position <> v.position
"""
_STEP_IN = f"""
update commerce.variants v set position = place.position
from ({_PLACES}) place where place.id = v.id and place.position <> v.position
"""
_UPDATE_VARIANTS = f"""
update commerce.variants v
set {", ".join(f"{name} = s.{name}" for name in _VARIANT)}, inventory_quantity = m.inventory_quantity,
    updated_at = now()
from staged_variants s join matched_variants m using (product_line, position)
where v.id = m.found_id
  and ({", ".join(f"v.{name}" for name in _VARIANT)}, v.inventory_quantity)
      is distinct from ({", ".join(f"s.{name}" for name in _VARIANT)}, m.inventory_quantity)
"""
_INSERT_VARIANTS = f"""
with made as (
    insert into commerce.variants (product_id, {", ".join(_VARIANT)}, inventory_quantity)
    select m.product_id, {", ".join(f"s.{name}" for name in _VARIANT)}, m.inventory_quantity
    from staged_variants s join matched_variants m using (product_line, position)
    where m.found_id is null
    order by m.product_id, s.position
    returning id, product_id, option_values
)
update matched_variants m set found_id = made.id
from made where made.product_id = m.product_id and made.option_values = m.option_values
"""
_RECORD_STOCK = """
insert into commerce.stock_movements (variant_id, change, quantity_after, reason)
select found_id, inventory_quantity - old_quantity, inventory_quantity, :reason
from matched_variants where inventory_quantity <> old_quantity
order by found_id
"""


async def stage_products(
    session: AsyncSession, products: Sequence[StagedProduct], variants: Sequence[StagedVariant]
) -> None:
    """Copy products with their variants to where `put_products` takes them from, once in a transaction.

    No two products may have the same handle, and no two variants of one the same options.
    """
    await stage(session, "staged_products", StagedProduct, products, "line, handle")
    await stage(session, "staged_variants", StagedVariant, variants, "product_line, position, option_values")


async def put_products(session: AsyncSession, reason: str | None) -> PutProducts:
    """Insert and update the products that were staged. With a `reason`, changes of stock go to the ledger."""
    staged = await run(session, _MATCH)
    updated = await run(session, _UPDATE)
    new = await run(session, _INSERT)
    variants_new, variants_updated = await _put_variants(session)
    if reason:
        await run(session, _RECORD_STOCK, reason=reason)
    return PutProducts(new, updated, staged - new - updated, variants_new, variants_updated)


async def _put_variants(session: AsyncSession) -> tuple[int, int]:
    await run(session, _MATCH_VARIANTS)
    if await run(session, _STEP_ASIDE):
        await run(session, _STEP_IN)
    updated = await run(session, _UPDATE_VARIANTS)
    return await run(session, _INSERT_VARIANTS), updated
