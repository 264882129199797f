"""What a product's variants come to: prices, stock, number."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlmodel import col

from mercato.plugins.commerce.models import Product, Variant


def figures_of(product_id: sa.SQLColumnExpression[int]) -> Any:
    """Return the figures of one product's variants, as a row to join to it.

    Prices are those of its cheapest variant, stock is that of its tracked variants: None where none is tracked.
    """
    cheapest_first = [col(Variant.price_minor), col(Variant.position)]
    compared = sa.func.array_agg(aggregate_order_by(col(Variant.compare_at_price_minor), *cheapest_first))
    tracked = col(Variant.inventory_tracked)
    oversold = col(Variant.inventory_policy) == "continue"
    return (
        sa.select(
            sa.func.count().label("variants_count"),
            sa.func.min(col(Variant.price_minor)).label("price_minor"),
            sa.func.max(col(Variant.price_minor)).label("highest_price_minor"),
            sa.type_coerce(compared, sa.ARRAY(sa.BigInteger))[1].label("compare_at_price_minor"),
            sa.func.sum(col(Variant.inventory_quantity)).filter(tracked).label("inventory_quantity"),
            sa.case((sa.func.bool_and(oversold), "continue"), (sa.func.bool_or(oversold), "mixed"), else_="deny").label(
                "inventory_policy"
            ),
        )
        .where(col(Variant.product_id) == product_id)
        .lateral("figures")
    )


def has_stock() -> sa.ColumnElement[bool]:
    """Return the condition that some variant of a product can be sold from stock, or is not counted at all."""
    available = sa.or_(~col(Variant.inventory_tracked), col(Variant.inventory_quantity) > 0)
    return sa.exists().where(col(Variant.product_id) == col(Product.id), available)
