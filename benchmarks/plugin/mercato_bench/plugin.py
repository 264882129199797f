"""The hooks: the catalogue of `shape`, and an order in a table of the plugin's own, under row-level security."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import bindparam
from sqlmodel import select

from mercato import Category, TenantOwned, ToolContext, ToolError, hookimpl, identity
from mercato_bench.shape import CATALOGUE, names, tool_with_context

bench = Category("bench", "Tools to measure the server with.")
for _name, _description in names(int(os.environ.get("BENCH_TOOLS", CATALOGUE))):
    bench.tool(read_only=True)(tool_with_context(_name, _description))


class BenchOrder(TenantOwned, table=True):
    """An order."""

    __tablename__ = "orders"
    __table_args__ = {"schema": "bench"}

    id: int = identity()
    number: str
    currency: str
    total_minor: int


class OrderAnswer(BaseModel):
    """An order, as a model reads it."""

    id: int
    number: str
    currency: str
    total_minor: int


ORDER_BY_ID = select(BenchOrder.id, BenchOrder.number, BenchOrder.currency, BenchOrder.total_minor).where(
    BenchOrder.id == bindparam("order_id")
)
OrderId = Annotated[int, Field(description="The id of the order.")]


async def read_bench_order(ctx: ToolContext, order_id: OrderId) -> OrderAnswer:
    """Read one order by its id."""
    rows = await ctx.db.rows(ORDER_BY_ID, {"order_id": order_id})
    if not rows:
        raise ToolError(f"There is no order {order_id}.", field="order_id")
    return OrderAnswer(**rows[0]._asdict())


async def add_bench_order(ctx: ToolContext, number: Annotated[str, Field(description="Its number.")]) -> OrderAnswer:
    """Add an order."""
    order = BenchOrder(number=number, currency="EUR", total_minor=9990)
    ctx.db.session.add(order)
    await ctx.db.session.flush()
    return OrderAnswer(**order.model_dump(exclude={"tenant_id"}))


if os.environ.get("BENCH_ORDERS") == "1":
    bench.tool(read_only=True)(read_bench_order)
    bench.tool(read_only=False)(add_bench_order)


@hookimpl
def register_categories() -> list[Category]:
    """Return the category `bench`."""
    return [bench]


@hookimpl
def register_migrations() -> Path:
    """Return the versions of the schema `bench`."""
    return Path(__file__).parent / "migrations"
