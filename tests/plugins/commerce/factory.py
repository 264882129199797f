"""Rows for tests: each function adds one and returns it, with an id."""

from __future__ import annotations

import itertools
from typing import Any

from mercato.plugins.commerce.models import Customer, Order, OrderLine, Product, StockMovement, Variant

_numbers = itertools.count(1001)


async def add_customer(db: Any, **values: Any) -> Customer:
    number = next(_numbers)
    defaults = {"email": f"customer{number}@example.com", "first_name": "Ada", "last_name": "Lovelace"}
    return await _add(db, Customer(**{"currency": "USD", **defaults, **values}))


async def add_product(db: Any, *stocks: int | None, **values: Any) -> tuple[Product, list[Variant]]:
    """One variant to each stock; None is a variant that is not tracked."""
    number = next(_numbers)
    defaults = {"handle": f"product-{number}", "title": f"Product {number}", "status": "active", "currency": "USD"}
    product = await _add(db, Product(**{**defaults, **values}))
    variants = [await add_variant(db, product, place, stock) for place, stock in enumerate(stocks, 1)]
    return product, variants


async def add_variant(db: Any, product: Product, position: int, stock: int | None, **values: Any) -> Variant:
    defaults: dict[str, Any] = {"title": f"Size {position}", "sku": f"SKU-{product.id}-{position}", "price_minor": 1000}
    stocked = {"inventory_tracked": stock is not None, "inventory_quantity": stock or 0}
    return await _add(db, Variant(**{"product_id": product.id, "position": position, **defaults, **stocked, **values}))


async def add_order(db: Any, *lines: tuple[Variant, int], **values: Any) -> Order:
    defaults: dict[str, Any] = {"number": f"#{next(_numbers)}", "email": "ada@example.com", "currency": "USD"}
    order = await _add(db, Order(**{"total_minor": 2500, **defaults, **values}))
    for position, (variant, quantity) in enumerate(lines, 1):
        await add_line(db, order, position, variant, quantity)
    return order


async def add_line(db: Any, order: Order, position: int, variant: Variant, quantity: int, **values: Any) -> OrderLine:
    of_variant = {"variant_id": variant.id, "product_id": variant.product_id, "sku": variant.sku}
    line = {"title": variant.title, "quantity": quantity, "price_minor": variant.price_minor}
    return await _add(db, OrderLine(**{"order_id": order.id, "position": position, **of_variant, **line, **values}))


async def movements(database: Any, tenant: Any) -> list[Any]:
    from sqlmodel import select

    async with database.tenant(tenant.id, read_only=True) as db:
        return list(await db.rows(select(StockMovement).order_by(StockMovement.id)))


async def stored(database: Any, tenant: Any, row: Any) -> Any:
    """The row as the database has it now."""
    from sqlmodel import select

    async with database.tenant(tenant.id, read_only=True) as db:
        return (await db.rows(select(type(row)).where(type(row).id == row.id)))[0]


async def _add(db: Any, row: Any) -> Any:
    db.session.add(row)
    await db.session.flush()
    return row
