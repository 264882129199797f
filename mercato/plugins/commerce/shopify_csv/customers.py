"""Customers: the rows of Shopify's customers export, a customer each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import orjson
from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.currencies import exponent_of
from mercato.plugins.commerce.bulk.customers import StagedCustomer, put_customers, stage_customers
from mercato.plugins.commerce.bulk.staging import Json, Rejection
from mercato.plugins.commerce.shopify_csv.cells import (
    BadCell,
    bare,
    boolean,
    email,
    line,
    money,
    names,
    note,
    whole,
)
from mercato.plugins.commerce.shopify_csv.columns import Columns
from mercato.plugins.commerce.shopify_csv.groups import Group, single
from mercato.plugins.commerce.shopify_csv.reader import Row
from mercato.plugins.commerce.shopify_csv.source import BadRows, Seen


class CustomerCells(NamedTuple):
    """The columns of a customer."""

    customer_id: str
    first_name: str
    last_name: str
    email: str
    phone: str
    accepts_email_marketing: str
    default_address_company: str
    default_address_address1: str
    default_address_address2: str
    default_address_city: str
    default_address_province: str
    default_address_province_code: str
    default_address_country: str
    default_address_country_code: str
    default_address_zip: str
    default_address_phone: str
    total_spent: str
    total_orders: str
    note: str
    tags: str


CUSTOMER = Columns(
    kind="customers",
    cells=CustomerCells,
    needed=("Email", "First Name", "Last Name"),
    older={
        "accepts_email_marketing": ("Accepts Marketing",),
        **{
            f"default_address_{part.lower().replace(' ', '_')}": (part,)
            for part in ("Company", "Address1", "Address2", "City", "Province", "Province Code")
        },
        **{
            f"default_address_{part.lower().replace(' ', '_')}": (part,)
            for part in ("Country", "Country Code", "Zip", "Phone")
        },
    },
)


class CustomersFile:
    """Customers, each by a row. What they spent is in the tenant's currency."""

    def __init__(self, header: list[str], file: str, currency: str) -> None:
        self._cells = CUSTOMER.found_in(header, file)
        self._currency = currency
        self._ids = Seen("customer")
        self._emails = Seen("address")

    def groups(self, rows: Iterable[Row]) -> Iterator[Group]:
        """Yield each row."""
        return single(rows)

    def take(self, group: Group) -> StagedCustomer:
        """Return a customer. Raises `BadRows`."""
        if group.faults:
            raise BadRows(Rejection(line, reason) for line, reason in group.faults)
        try:
            customer = customer_of(group.line, self._cells(group.rows[0].cells), self._currency)
        except BadCell as bad:
            raise BadRows([Rejection(group.line, str(bad))]) from None
        again = self._ids.refuse_again(customer.external_id) or self._emails.refuse_again(customer.email)
        if again:
            raise BadRows([Rejection(group.line, again)])
        return customer

    async def stage(self, session: AsyncSession, items: Sequence[StagedCustomer]) -> None:
        """Copy customers to the database."""
        await stage_customers(session, items)

    async def put(self, session: AsyncSession) -> tuple[dict[str, int], list[Rejection]]:
        """Put them into the table."""
        return (await put_customers(session))._asdict(), []


def customer_of(at: int, cells: CustomerCells, currency: str) -> StagedCustomer:
    """Return the customer of line `at`. Raises `BadCell`."""
    external_id, address = bare(cells.customer_id), email(cells.email)
    if external_id is None and address is None:
        raise BadCell("there is neither a Customer ID nor an Email to know the customer by")
    return StagedCustomer(
        line=at,
        external_id=external_id,
        email=address,
        phone=bare(cells.phone or cells.default_address_phone),
        first_name=line(cells.first_name),
        last_name=line(cells.last_name),
        default_address=_address(cells),
        accepts_marketing=boolean(cells.accepts_email_marketing, "Accepts Email Marketing"),
        orders_count=whole(cells.total_orders, "Total Orders") if cells.total_orders.strip() else 0,
        total_spent_minor=money(cells.total_spent, exponent_of(currency), "Total Spent"),
        currency=currency,
        tags=names(cells.tags),
        note=note(cells.note),
        created_at=None,
    )


def _address(cells: CustomerCells) -> Json | None:
    parts = {
        "company": line(cells.default_address_company),
        "address1": line(cells.default_address_address1),
        "address2": line(cells.default_address_address2),
        "city": line(cells.default_address_city),
        "province": line(cells.default_address_province) or line(cells.default_address_province_code),
        "zip": bare(cells.default_address_zip),
        "country": line(cells.default_address_country),
        "country_code": line(cells.default_address_country_code),
        "phone": bare(cells.default_address_phone),
    }
    known = {part: text for part, text in parts.items() if text}
    return Json(orjson.dumps(known).decode()) if known else None
