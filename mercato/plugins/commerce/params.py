"""Parameters of the commerce tools, checked before anything asks the database."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

MOST_ID = 2**53 - 1
"""The largest whole number that every client's JSON keeps exact."""
MOST_UNITS = 1_000_000_000

OrderStatus = Literal["pending", "confirmed", "processing", "shipped", "delivered", "cancelled", "refunded"]
FulfillmentStatus = Literal["unfulfilled", "partial", "fulfilled"]
FinancialStatus = Literal["pending", "authorized", "paid", "partially_paid", "partially_refunded", "refunded", "voided"]
ProductStatus = Literal["draft", "active", "archived"]

OrderId = Annotated[int, Field(ge=1, le=MOST_ID, description="The order's `id`, not its number; see `search_orders`.")]
CustomerId = Annotated[int, Field(ge=1, le=MOST_ID, description="The customer's `id`; `search_customers` finds it.")]
ProductId = Annotated[int, Field(ge=1, le=MOST_ID, description="The product's `id`; `list_products` finds it.")]

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_YEARS = range(1970, 2200)


def _plain_day(value: Any) -> Any:
    """Refuse what pydantic would take for a day all the same: numbers of seconds, times, years of no business."""
    if isinstance(value, str) and (not _DAY.fullmatch(value) or int(value[:4]) not in _YEARS):
        raise ValueError(f"give a day as YYYY-MM-DD, from {_YEARS.start} to {_YEARS.stop - 1}")
    if isinstance(value, int | float):
        raise ValueError("give a day as YYYY-MM-DD, not a number")
    return value


Day = Annotated[date | None, BeforeValidator(_plain_day)]
