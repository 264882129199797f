"""Shopify CSV: the files that Shopify's admin exports, into the tenant's tables.

Customers come first, then products, then orders, so that orders find both. What an export cannot say, such as whether
a parcel has arrived, is left alone; see `statuses` for how an order's status is derived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mercato import ImportContext, Importer, ImportReport
from mercato.plugins.commerce.bulk.counters import count_some
from mercato.plugins.commerce.shopify_csv.columns import WrongFile
from mercato.plugins.commerce.shopify_csv.customers import CustomersFile
from mercato.plugins.commerce.shopify_csv.files import Open, import_file
from mercato.plugins.commerce.shopify_csv.orders_file import OrdersFile
from mercato.plugins.commerce.shopify_csv.products_file import ProductsFile

__all__ = ["SHOPIFY_CSV", "WrongFile"]

_SOURCES: Mapping[str, Open] = {"customers": CustomersFile, "products": ProductsFile, "orders": OrdersFile}


async def _run(context: ImportContext, files: Mapping[str, Path]) -> ImportReport:
    """Import the files that are given. Raises `WrongFile` for what is not the export it was given as."""
    given = [(kind, files[kind], source) for kind, source in _SOURCES.items() if kind in files]
    if not given:
        raise WrongFile(f"Name at least one file: {', '.join(f'--{kind}' for kind in _SOURCES)}.")
    counts: Counter[str] = Counter()
    rejected, reject_files, stopped = 0, [], []
    for kind, path, source in given:
        done = await import_file(context, kind, path, source)
        counts.update(done.counts)
        rejected += done.rejects.count
        reject_files += [done.rejects.path] if done.rejects.count else []
        stopped += [done.stopped] if done.stopped else []
    if "orders" in files:
        await _count_customers(context)
    return ImportReport(+counts, rejected, tuple(reject_files), tuple(stopped))


async def _count_customers(context: ImportContext) -> None:
    after: int | None = 0
    while after is not None:
        effect: Counter[str] = Counter()
        async with context.begin(effect) as db:
            after, effect["customers_counted"] = await count_some(db.session, after)


SHOPIFY_CSV = Importer(
    name="shopify-csv",
    description="Customers, products and orders from the CSV files that Shopify's admin exports.",
    run=_run,
    files={
        "customers": "customers_export.csv, from Customers, Export",
        "products": "products_export.csv, from Products, Export",
        "orders": "orders_export.csv, from Orders, Export",
    },
)
