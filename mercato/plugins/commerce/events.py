"""What happens in commerce that others may want to know."""

from __future__ import annotations

from pydantic import BaseModel, Field

from mercato import Event


class StockRanLow(BaseModel):
    """A variant of which there is little left."""

    product_id: int = Field(description="Whose variant it is.")
    product: str = Field(description="The product's title.")
    variant_id: int = Field(description="What runs low.")
    variant: str = Field(description="The variant's title.")
    units: int = Field(description="What is left.")
    threshold: int = Field(description="At this many or fewer it counts as low.")


stock_ran_low = Event(
    "commerce.stock_ran_low",
    StockRanLow,
    "The stock of a variant fell to the tenant's threshold or below it; told once for each time that it falls.",
)
EVENTS = (stock_ran_low,)
