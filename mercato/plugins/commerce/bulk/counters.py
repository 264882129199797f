"""The counters of customers, counted anew from their orders.

An import does so once at its end and not for each batch: a customer may have orders in many of them, and every time
its row would be written again. An import that is interrupted leaves it to the next one. Who has no orders here keeps
what the shop said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.staging import fetch, run

CUSTOMERS_AT_A_TIME = 50_000

_LAST = """
select max(id) from (
    select id from commerce.customers where id > :after order by id limit :customers
) next_ones
"""
_SUMS = """
select c.id,
       count(o.id) filter (where o.status <> 'cancelled') as orders_count,
       coalesce(sum(o.total_minor - o.refunded_minor)
           filter (where o.status <> 'cancelled' and o.currency = c.currency), 0) as total_spent_minor,
       min(o.placed_at) as first_placed_at
from commerce.customers c
"""
# Nobody is a customer for a shorter time than their first order is old.
_COUNT = """
update commerce.customers c
set orders_count = n.orders_count, total_spent_minor = n.total_spent_minor,
    created_at = least(c.created_at, n.first_placed_at), updated_at = now()
from ({sums} group by c.id) n
where n.id = c.id
  and (c.orders_count, c.total_spent_minor, c.created_at)
      is distinct from (n.orders_count, n.total_spent_minor, least(c.created_at, n.first_placed_at))
"""
_COUNT_RANGE = _COUNT.format(
    sums=f"{_SUMS} join commerce.orders o on o.customer_id = c.id where c.id > :after and c.id <= :last"
)
_COUNT_THESE = _COUNT.format(
    sums=f"{_SUMS} left join commerce.orders o on o.customer_id = c.id where c.id = any(:customers)"
)


class Counted(NamedTuple):
    """The id of the last customer that was counted, None behind the last of all; and how many were not up to date."""

    last: int | None
    customers: int


async def count_some(session: AsyncSession, after: int) -> Counted:
    """Count the orders of the next customers behind the id `after`."""
    [(last,)] = await fetch(session, _LAST, after=after, customers=CUSTOMERS_AT_A_TIME)
    if last is None:
        return Counted(None, 0)
    return Counted(int(last), await run(session, _COUNT_RANGE, after=after, last=last))


async def count_all(session: AsyncSession) -> None:
    """Count the orders of every customer."""
    after: int | None = 0
    while after is not None:
        after, _ = await count_some(session, after)


async def recount(session: AsyncSession, customers: Sequence[int]) -> None:
    """Count the orders of these customers, who may have none any more."""
    if customers:
        await run(session, _COUNT_THESE, customers=list(customers))
