"""The demo store: Kestrel Coffee, made up, to see what mercato does before there are data of one's own.

120 products, 2,000 customers and the 12,000 orders of the last 18 months, with what real shops have: refunds, empty
shelves, three currencies, names in many scripts, an order of 40 lines, a note that gives orders to whoever reads it.
The same seed and day give the same store. It goes into an empty tenant, whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato import ImportContext, Importer, ImportRefused, ImportReport, utc_now
from mercato.plugins.commerce.bulk.counters import count_all
from mercato.plugins.commerce.bulk.customers import put_customers, stage_customers
from mercato.plugins.commerce.bulk.orders import put_orders, stage_orders
from mercato.plugins.commerce.bulk.products import put_products, stage_products
from mercato.plugins.commerce.bulk.staging import fetch
from mercato.plugins.commerce.demo.ledger import movements, put_movements
from mercato.plugins.commerce.demo.people import DAYS, invite_people
from mercato.plugins.commerce.demo.sales import FIRST_NUMBER, sell
from mercato.plugins.commerce.demo.shelf import stock_shelf

__all__ = ["DEMO_STORE", "NotEmpty", "open_store"]

SEED = 20_260
_IS_THERE = "select exists (select from commerce.orders where external_id = :external_id)"
_IS_USED = """
select exists (select from commerce.orders) or exists (select from commerce.products)
    or exists (select from commerce.customers)
"""


class NotEmpty(ImportRefused):
    """The tenant has data of its own; the text is a sentence for a person."""


async def open_store(context: ImportContext, now: datetime, *, seed: int = SEED) -> ImportReport:
    """Fill the tenant with the demo store as it is on the day of `now`, unless it has it. Raises `NotEmpty`."""
    effect: dict[str, int] = {}
    async with context.begin(effect) as db:
        [(is_there,)] = await fetch(db.session, _IS_THERE, external_id=f"demo-{FIRST_NUMBER}")
        if is_there:
            return ImportReport({"products_new": 0, "customers_new": 0, "orders_new": 0})
        [(is_used,)] = await fetch(db.session, _IS_USED)
        if is_used:
            raise NotEmpty(f"The tenant {context.tenant.slug} has data of its own: the demo store needs an empty one.")
        zone = ZoneInfo(context.tenant.timezone)
        start = datetime.combine(now.astimezone(zone).date() - timedelta(days=DAYS), time.min, zone)
        effect |= await _fill(db.session, context, Random(seed), start)  # noqa: S311  # nothing secret
    return ImportReport(effect)


async def _fill(session: AsyncSession, context: ImportContext, chance: Random, start: datetime) -> dict[str, int]:
    currency = context.tenant.currency
    shelf = stock_shelf(chance, currency)
    people = invite_people(chance, start, currency)
    sales = list(sell(chance, shelf, people, start))
    await stage_customers(session, [person.customer for person in people])
    customers = await put_customers(session)
    await stage_products(session, [one.product for one in shelf], [each for one in shelf for each in one.variants])
    products = await put_products(session, None)
    stock = await put_movements(session, list(movements(chance, shelf, start)))
    await stage_orders(session, [order for order, _ in sales], [line for _, lines in sales for line in lines])
    context.progress("orders", 0, len(sales))
    orders = await put_orders(session, currency)
    await count_all(session)
    context.progress("orders", len(sales), len(sales))
    return {
        "customers_new": customers.customers_new,
        "products_new": products.products_new,
        "variants_new": products.variants_new,
        "stock_movements_new": stock,
        "orders_new": orders.orders_new,
        "lines_new": orders.lines_new,
    }


async def _run(context: ImportContext, files: Mapping[str, Path]) -> ImportReport:
    """Fill the tenant as of today; there are no files."""
    return await open_store(context, utc_now())


DEMO_STORE = Importer(
    name="demo-store",
    description="A made-up coffee roaster with 18 months of orders, to try things out.",
    run=_run,
    demo=True,
)
