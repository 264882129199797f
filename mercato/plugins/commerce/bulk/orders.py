"""Orders with their lines, many at a time: found by their id in the shop, else by number.

A customer is linked by its id in the shop, else by e-mail address, and made where nobody has the address. A line is
linked to the variant with its SKU where one variant only has it. The customers' counters are for `counters` to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.counters import recount
from mercato.plugins.commerce.bulk.staging import Json, Rejection, fetch, look_up, run, stage


class StagedOrder(NamedTuple):
    """An order. `line` is where it was read; `email` is in lower case."""

    line: int
    external_id: str | None
    number: str
    customer_external_id: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    phone: str | None
    accepts_marketing: bool
    status: str
    fulfillment_status: str
    financial_status: str
    currency: str
    subtotal_minor: int
    discount_minor: int
    shipping_minor: int
    tax_minor: int
    total_minor: int
    refunded_minor: int
    discount_codes: list[str]
    shipping_address: Json | None
    billing_address: Json | None
    tags: list[str]
    customer_note: str | None
    cancel_reason: str | None
    placed_at: datetime
    fulfilled_at: datetime | None
    cancelled_at: datetime | None
    lines_count: int


class StagedLine(NamedTuple):
    """A line of the order that was read at `order_line`."""

    order_line: int
    position: int
    sku: str | None
    title: str
    quantity: int
    price_minor: int
    discount_minor: int
    fulfillment_status: str


class PutOrders(NamedTuple):
    """What became of orders and their lines; customers are those that were made for them."""

    orders_new: int
    orders_updated: int
    orders_unchanged: int
    lines_new: int
    lines_updated: int
    lines_removed: int
    customers_new: int
    rejected: list[Rejection]


_NOT_OF_THE_ORDER = {
    *("line", "customer_external_id", "first_name", "last_name", "phone", "accepts_marketing", "lines_count"),
}
_INSERTED = [name for name in StagedOrder._fields if name not in _NOT_OF_THE_ORDER]
_UPDATED = [name for name in _INSERTED if name != "cancel_reason"]  # what our people wrote, and few files know

# An order that has the number but another id in the shop is another order, and keeps its number. The subqueries are
# looked up one by one, by index: the planner takes any tenant for an average one, and would read all of a large one.
_MATCH = """
create temporary table matched_orders on commit drop as
select s.line, s.number, s.email, s.lines_count,
       coalesce(by_id.id, by_number.id) as found_id,
       coalesce(by_id.id, by_number.id) as order_id,
       coalesce(by_id.customer_id, by_number.customer_id) as old_customer_id,
       coalesce(
           (select c.id from commerce.customers c where c.external_id = s.customer_external_id limit 1),
           (select min(c.id + 0) from commerce.customers c where c.email_key = lower(s.email))
       ) as customer_id,
       by_number.id <> coalesce(by_id.id, -1)
           and (by_id.id is not null or by_number.external_id <> s.external_id) as is_taken
from staged_orders s
left join lateral (
    select o.id, o.customer_id from commerce.orders o where o.external_id = s.external_id limit 1
) by_id on true
left join lateral (
    select o.id, o.customer_id, o.external_id from commerce.orders o where o.number = s.number limit 1
) by_number on true
"""
_FIND = """
select count(*), count(found_id), count(*) filter (where is_taken) + count(found_id) - count(distinct found_id),
       count(*) filter (where customer_id is null and email is not null)
from matched_orders
"""
_TAKEN = """
delete from matched_orders m
where is_taken or exists (select from matched_orders other where other.found_id = m.found_id and other.line < m.line)
returning line, number
"""
_MAKE_CUSTOMERS = """
with made as (
    insert into commerce.customers (email, first_name, last_name, phone, accepts_marketing, currency, created_at)
    select distinct on (s.email)
           s.email, s.first_name, s.last_name, s.phone, s.accepts_marketing, :currency, s.placed_at
    from staged_orders s join matched_orders m using (line)
    where m.customer_id is null and s.email is not null
    order by s.email, s.placed_at, s.line
    returning id, email
), linked as (
    update matched_orders m set customer_id = made.id from made where made.email = m.email and m.customer_id is null
)
select count(*) from made
"""
_CHANGES = f"""
create temporary table changed_orders on commit drop as
select m.order_id, {", ".join(f"s.{name}" for name in _UPDATED)},
       coalesce(m.customer_id, m.old_customer_id) as customer_id
from staged_orders s
join matched_orders m using (line)
cross join lateral (select * from commerce.orders o where o.id = m.found_id limit 1) o
where ({", ".join(f"o.{name}" for name in _UPDATED)}, o.customer_id)
      is distinct from ({", ".join(f"s.{name}" for name in _UPDATED)}, coalesce(m.customer_id, o.customer_id))
"""
_INSERT = f"""
with made as (
    insert into commerce.orders ({", ".join(_INSERTED)}, customer_id)
    select {", ".join(f"s.{name}" for name in _INSERTED)}, m.customer_id
    from staged_orders s join matched_orders m using (line)
    where m.found_id is null
    returning id, number
)
update matched_orders m set order_id = made.id from made where made.number = m.number
"""
_UPDATE = f"""
update commerce.orders o
set {", ".join(f"{name} = s.{name}" for name in _UPDATED)}, customer_id = s.customer_id, updated_at = now()
from changed_orders s where o.id = s.order_id
"""
_BEREFT = "select old_customer_id from matched_orders where old_customer_id <> customer_id"
_REMOVE_LINES = """
delete from commerce.order_lines l using matched_orders m
where m.found_id is not null and l.order_id = m.order_id and l.position > m.lines_count
"""
_LINES = """
    insert into commerce.order_lines as l
        (order_id, position, variant_id, product_id, sku, title, quantity, price_minor, discount_minor,
         fulfillment_status)
    select m.order_id, s.position, single.id, single.product_id, s.sku, s.title, s.quantity, s.price_minor,
           s.discount_minor, s.fulfillment_status
    from staged_lines s
    join matched_orders m on m.line = s.order_line
    left join (
        select sku, min(id) as id, min(product_id) as product_id from commerce.variants
        where sku in (select sku from staged_lines) group by 1 having count(*) = 1
    ) single on single.sku = s.sku
"""
_ADD_LINES = f"{_LINES} where m.found_id is null"
_PUT_LINES = f"""
with put as (
    {_LINES} where m.found_id is not null
    on conflict (tenant_id, order_id, position) do update set
        variant_id = excluded.variant_id, product_id = excluded.product_id, sku = excluded.sku,
        title = excluded.title, quantity = excluded.quantity, price_minor = excluded.price_minor,
        discount_minor = excluded.discount_minor, fulfillment_status = excluded.fulfillment_status
    where (l.variant_id, l.product_id, l.sku, l.title, l.quantity, l.price_minor, l.discount_minor,
           l.fulfillment_status)
        is distinct from (excluded.variant_id, excluded.product_id, excluded.sku, excluded.title, excluded.quantity,
            excluded.price_minor, excluded.discount_minor, excluded.fulfillment_status)
    returning (xmax = 0) as is_new
)
select count(*) filter (where is_new), count(*) filter (where not is_new) from put
"""


async def stage_orders(session: AsyncSession, orders: Sequence[StagedOrder], lines: Sequence[StagedLine]) -> None:
    """Copy orders with their lines to where `put_orders` takes them from, once in a transaction."""
    await stage(session, "staged_orders", StagedOrder, orders, "line, external_id, number, email")
    await stage(session, "staged_lines", StagedLine, lines, "order_line, sku")


async def put_orders(session: AsyncSession, currency: str) -> PutOrders:
    """Insert and update the orders that were staged. `currency` is that of customers who are made."""
    await run(session, _MATCH)
    [(staged, found, taken, unknown)] = await fetch(session, _FIND)
    rejected = [
        Rejection(line, f"the number {number} belongs to another order already")
        for line, number in (await fetch(session, _TAKEN) if taken else [])
    ]
    [(customers_new,)] = await fetch(session, _MAKE_CUSTOMERS, currency=currency) if unknown else [(0,)]
    changed = await run(session, _CHANGES) if found else 0
    new = await run(session, _INSERT) if found < staged else 0
    added = await run(session, _ADD_LINES) if new else 0
    [(more, lines_updated)] = await fetch(session, _PUT_LINES) if found else [(0, 0)]
    removed = await _settle(session, changed=changed) if found else 0
    unchanged = staged - len(rejected) - new - changed
    return PutOrders(new, changed, unchanged, added + more, lines_updated, removed, customers_new, rejected)


async def _settle(session: AsyncSession, *, changed: int) -> int:
    """Bring the orders that were there up to date; return how many lines they no longer have."""
    await look_up(session)
    removed = await run(session, _REMOVE_LINES)
    if changed:
        await run(session, _UPDATE)
        await recount(session, [customer for (customer,) in await fetch(session, _BEREFT)])
    return removed
