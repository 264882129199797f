"""What a tenant may set about its commerce tools."""

from __future__ import annotations

from pydantic import BaseModel, Field


class CommerceSettings(BaseModel):
    """Changed by the tenant; used where a call does not say otherwise."""

    low_stock_threshold: int = Field(
        default=10, ge=0, le=1_000_000, description="At this many units or fewer a product counts as low in stock."
    )
