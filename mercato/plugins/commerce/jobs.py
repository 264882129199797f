"""What commerce does in the background."""

from __future__ import annotations

from mercato import JobContext, TenantEvent, job
from mercato.plugins.commerce.events import StockRanLow, stock_ran_low


@job("commerce.tell_of_low_stock", on=stock_ran_low)
async def tell_of_low_stock(ctx: JobContext, event: TenantEvent[StockRanLow]) -> None:
    """Say in the log that a variant runs low, for whoever watches it."""
    low = event.data
    ctx.log.warning(
        "stock ran low",
        product_id=low.product_id,
        variant_id=low.variant_id,
        units=low.units,
        threshold=low.threshold,
    )


JOBS = (tell_of_low_stock,)
