"""The products export as a source: groups of rows -> products with their variants -> tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.currencies import exponent_of
from mercato.plugins.commerce.bulk.products import StagedProduct, StagedVariant, put_products, stage_products
from mercato.plugins.commerce.bulk.staging import Rejection
from mercato.plugins.commerce.shopify_csv.cells import BadCell, bare
from mercato.plugins.commerce.shopify_csv.groups import Group, grouped
from mercato.plugins.commerce.shopify_csv.products import PRODUCT, ProductCells, product_of, variant_of
from mercato.plugins.commerce.shopify_csv.reader import Row
from mercato.plugins.commerce.shopify_csv.source import BadRows, Seen

REASON = "imported from Shopify"


class TakenProduct(NamedTuple):
    """A product with its variants."""

    product: StagedProduct
    variants: list[StagedVariant]


class ProductsFile:
    """Products, whose prices are in the tenant's currency. One of whose rows one is bad is not taken at all."""

    def __init__(self, header: list[str], file: str, currency: str) -> None:
        self._cells = PRODUCT.found_in(header, file)
        self._handle_at = PRODUCT.place("URL handle", header)
        self._currency = currency
        self._handles = Seen("product")

    def groups(self, rows: Iterable[Row]) -> Iterator[Group]:
        """Yield the rows of each product."""
        return grouped(rows, self._key)

    def take(self, group: Group) -> TakenProduct:
        """Return a product with its variants. Raises `BadRows`."""
        again = self._handles.refuse_again(group.key or None)
        faults = [*group.faults, *([(group.line, again)] if again else [])]
        taken = self._parse(group, faults) if not faults else None
        if faults or taken is None:
            told = f"; product {group.key} was not taken" if group.key else ""
            raise BadRows(Rejection(line, f"{reason}{told}") for line, reason in faults)
        return taken

    async def stage(self, session: AsyncSession, items: Sequence[TakenProduct]) -> None:
        """Copy products with their variants to the database."""
        variants = [variant for item in items for variant in item.variants]
        await stage_products(session, [item.product for item in items], variants)

    async def put(self, session: AsyncSession) -> tuple[dict[str, int], list[Rejection]]:
        """Put them into the tables."""
        return (await put_products(session, REASON))._asdict(), []

    def _key(self, cells: list[str]) -> str:
        return bare(cells[self._handle_at]) or "" if len(cells) > self._handle_at else ""

    def _parse(self, group: Group, faults: list[tuple[int, str]]) -> TakenProduct | None:
        """Return the product, or None when its first row is bad; add what is bad to `faults`."""
        cells = [self._cells(row.cells) for row in group.rows]
        try:
            product = product_of(group.line, cells, self._currency)
        except BadCell as bad:
            faults.append((group.line, str(bad)))
            return None
        return TakenProduct(product, self._variants(group, cells, faults))

    def _variants(
        self, group: Group, cells: Sequence[ProductCells], faults: list[tuple[int, str]]
    ) -> list[StagedVariant]:
        variants: list[StagedVariant] = []
        taken: set[tuple[str, ...]] = set()
        for row, one in zip(group.rows, cells, strict=True):
            if variants and not one.has_variant:
                continue
            try:
                variant = variant_of(group.line, len(variants) + 1, one, exponent_of(self._currency))
                if tuple(variant.option_values) in taken:
                    raise BadCell(f"there are two variants {variant.title}")
            except BadCell as bad:
                faults.append((row.line, str(bad)))
            else:
                taken.add(tuple(variant.option_values))
                variants.append(variant)
        return variants
