"""Customers, many at a time: found by their id in the shop, else by e-mail address."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.staging import Json, run, stage


class StagedCustomer(NamedTuple):
    """A customer. `line` is where it was read; `email` is in lower case.

    The counters are what the shop says; they hold until orders of the customer are here to be counted.
    """

    line: int
    external_id: str | None
    email: str | None
    phone: str | None
    first_name: str | None
    last_name: str | None
    default_address: Json | None
    accepts_marketing: bool
    orders_count: int
    total_spent_minor: int
    currency: str
    tags: list[str]
    note: str | None
    created_at: datetime | None


class PutCustomers(NamedTuple):
    """What became of customers."""

    customers_new: int
    customers_updated: int
    customers_unchanged: int


_INSERTED = StagedCustomer._fields[1:-1]
_UPDATED = [name for name in _INSERTED if name not in {"external_id", "orders_count", "total_spent_minor", "currency"}]

# One who has the address but another id in the shop is somebody else, or somebody who left and came back.
_MATCH = """
create temporary table matched_customers on commit drop as
select s.line, coalesce(by_id.id, by_email.id) as found_id,
       exists (select from commerce.orders o where o.customer_id = coalesce(by_id.id, by_email.id)) as is_counted
from staged_customers s
left join lateral (
    select c.id from commerce.customers c where c.external_id = s.external_id limit 1
) by_id on true
left join lateral (
    select min(c.id + 0) as id from commerce.customers c
    where c.email_key = lower(s.email)
      and (c.external_id is null
           or s.external_id is null
           and not exists (select from staged_customers other where other.external_id = c.external_id))
) by_email on true
"""
_UPDATE = f"""
update commerce.customers c
set {", ".join(f"{name} = s.{name}" for name in _UPDATED)}, external_id = coalesce(s.external_id, c.external_id),
    orders_count = case when m.is_counted or c.currency <> s.currency then c.orders_count else s.orders_count end,
    total_spent_minor =
        case when m.is_counted or c.currency <> s.currency then c.total_spent_minor else s.total_spent_minor end,
    updated_at = now()
from staged_customers s join matched_customers m using (line)
where c.id = m.found_id
  and (({", ".join(f"c.{name}" for name in _UPDATED)}, c.external_id)
       is distinct from ({", ".join(f"s.{name}" for name in _UPDATED)}, coalesce(s.external_id, c.external_id))
       or not m.is_counted and c.currency = s.currency
       and (c.orders_count, c.total_spent_minor) is distinct from (s.orders_count, s.total_spent_minor))
"""
_INSERT = f"""
insert into commerce.customers ({", ".join(_INSERTED)}, created_at)
select {", ".join(f"s.{name}" for name in _INSERTED)}, coalesce(s.created_at, now())
from staged_customers s join matched_customers m using (line)
where m.found_id is null
order by s.line
"""


async def stage_customers(session: AsyncSession, customers: Sequence[StagedCustomer]) -> None:
    """Copy customers to where `put_customers` takes them from, once in a transaction.

    No two may have the same id in the shop or the same address.
    """
    await stage(session, "staged_customers", StagedCustomer, customers, "line, external_id, email")


async def put_customers(session: AsyncSession) -> PutCustomers:
    """Insert and update the customers that were staged."""
    staged = await run(session, _MATCH)
    updated = await run(session, _UPDATE)
    new = await run(session, _INSERT)
    return PutCustomers(new, updated, staged - new - updated)
