"""A plugin whose tools take their time and ask: what docs/write-a-plugin.md shows of tasks is taken from here."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field

from mercato import Category, JobContext, TenantEvent, ToolContext, job
from mercato.plugins.commerce import StockRanLow, stock_ran_low
from mercato.tenancy.grants import DisabledTool
from tests.inmemory import plugin

reports = Category("reports", "Reports, and what is done about them.")
Year = Annotated[int, Field(description="Of which year.")]


class Report(BaseModel):
    text: str


class Size(BaseModel):
    cm: int = Field(description="The width of the paper.")


async def ask_size(ctx: ToolContext, year: int) -> Size:
    return await ctx.ask(f"How wide is the paper for {year}?", Size, key="size")


@reports.tool(read_only=True, task="required", timeout_s=1_800, asks=ask_size)
async def make_report(ctx: ToolContext, year: Year) -> Report:
    """Make the report of a year."""
    size = await ask_size(ctx, year)
    await ctx.progress(1, 2, "The orders are counted.")
    return Report(text=f"{year}, {size.cm} cm wide")


class Price(BaseModel):
    cents: int


class Length(BaseModel):
    days: int


@reports.tool(read_only=True, task="required")
async def plan_sale(ctx: ToolContext, product: Annotated[str, Field(description="Its name.")]) -> Report:
    """Plan the sale of a product, as the person wants it."""
    price, length = await asyncio.gather(
        ctx.ask("At what price?", Price, key="price"),
        ctx.ask("For how many days?", Length, key="length"),
    )
    return Report(text=f"{product} at {price.cents} for {length.days} days")


@job("reports.keep")
async def keep(ctx: JobContext, name: str) -> None:
    """Keep a row."""
    ctx.db.session.add(DisabledTool(tool=name))


@job("reports.fail")
async def fail(ctx: JobContext) -> None:
    """Fail, to be tried again later."""
    raise RuntimeError("not today")


orders: list[tuple[int, str]] = []


async def send_order(variant_id: int, *, key: str) -> None:
    orders.append((variant_id, key))


@job("reports.order_more", on=stock_ran_low)
async def order_more(ctx: JobContext, event: TenantEvent[StockRanLow]) -> None:
    """Order more of what runs low."""
    await send_order(event.data.variant_id, key=ctx.key)


FOUND = plugin("reports", register_categories=[reports], register_jobs=[keep, fail, order_more])
