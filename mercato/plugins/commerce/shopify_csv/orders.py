"""Orders: the rows of Shopify's orders export -> orders with their lines.

The first row of an order has all of it, the others only what concerns a line. The export's Subtotal is what remains
after discounts; ours is what the lines add up to before them, so that subtotal - discount + shipping + tax is the
total in both, unless the prices contain the tax.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from mercato.plugins.commerce.bulk.currencies import exponent_of
from mercato.plugins.commerce.bulk.orders import StagedLine, StagedOrder
from mercato.plugins.commerce.bulk.staging import Json
from mercato.plugins.commerce.shopify_csv.cells import (
    BadCell,
    bare,
    boolean,
    currency_code,
    email,
    line,
    moment,
    money,
    names,
    note,
    optional_moment,
    whole,
)
from mercato.plugins.commerce.shopify_csv.columns import Columns
from mercato.plugins.commerce.shopify_csv.statuses import financial_status, fulfillment_status, order_status


class OrderCells(NamedTuple):
    """The columns of an order's first row."""

    name: str
    id: str
    email: str
    phone: str
    accepts_marketing: str
    financial_status: str
    fulfillment_status: str
    fulfilled_at: str
    cancelled_at: str
    created_at: str
    currency: str
    subtotal: str
    shipping: str
    taxes: str
    total: str
    discount_code: str
    discount_amount: str
    refunded_amount: str
    notes: str
    tags: str


class LineCells(NamedTuple):
    """The columns of a line, in every row."""

    lineitem_quantity: str
    lineitem_name: str
    lineitem_price: str
    lineitem_sku: str
    lineitem_discount: str
    lineitem_fulfillment_status: str


class BillingCells(NamedTuple):
    """The columns of the address that an order is billed to."""

    billing_name: str
    billing_company: str
    billing_address1: str
    billing_address2: str
    billing_city: str
    billing_zip: str
    billing_province: str
    billing_province_name: str
    billing_country: str
    billing_phone: str


class ShippingCells(NamedTuple):
    """The columns of the address that an order is sent to."""

    shipping_name: str
    shipping_company: str
    shipping_address1: str
    shipping_address2: str
    shipping_city: str
    shipping_zip: str
    shipping_province: str
    shipping_province_name: str
    shipping_country: str
    shipping_phone: str


ORDER = Columns(
    kind="orders",
    cells=OrderCells,
    needed=(
        *("Name", "Email", "Financial Status", "Fulfillment Status", "Created at", "Currency"),
        *("Subtotal", "Shipping", "Taxes", "Total", "Lineitem quantity", "Lineitem name", "Lineitem price"),
    ),
)
LINE = Columns(kind="orders", cells=LineCells)
BILLING = Columns(kind="orders", cells=BillingCells)
SHIPPING = Columns(kind="orders", cells=ShippingCells)


def order_of(at: int, cells: OrderCells, billing: BillingCells, shipping: ShippingCells) -> StagedOrder:
    """Return the order whose first row stands at line `at`. Raises `BadCell`."""
    currency = currency_code(cells.currency, "Currency")
    exponent = exponent_of(currency)
    financial = financial_status(cells.financial_status)
    fulfillment = fulfillment_status(cells.fulfillment_status)
    cancelled_at = optional_moment(cells.cancelled_at, "Cancelled at")
    discount = money(cells.discount_amount, exponent, "Discount Amount")
    billing_address = _address(*billing)
    is_same = tuple(billing) == tuple(shipping)  # as they are for most
    first_name, last_name = _split(billing.billing_name or shipping.shipping_name)
    return StagedOrder(
        line=at,
        external_id=bare(cells.id),
        number=bare(cells.name) or "",
        customer_external_id=None,
        email=email(cells.email),
        first_name=first_name,
        last_name=last_name,
        phone=bare(cells.phone or billing.billing_phone or shipping.shipping_phone),
        accepts_marketing=boolean(cells.accepts_marketing, "Accepts Marketing"),
        status=order_status(financial, fulfillment, cancelled_at),
        fulfillment_status=fulfillment,
        financial_status=financial,
        currency=currency,
        subtotal_minor=money(cells.subtotal, exponent, "Subtotal") + discount,
        discount_minor=discount,
        shipping_minor=money(cells.shipping, exponent, "Shipping"),
        tax_minor=money(cells.taxes, exponent, "Taxes"),
        total_minor=money(cells.total, exponent, "Total"),
        refunded_minor=money(cells.refunded_amount, exponent, "Refunded Amount"),
        discount_codes=names(cells.discount_code),
        shipping_address=billing_address if is_same else _address(*shipping),
        billing_address=billing_address,
        tags=names(cells.tags),
        customer_note=note(cells.notes),
        cancel_reason=None,
        placed_at=moment(cells.created_at, "Created at"),
        fulfilled_at=optional_moment(cells.fulfilled_at, "Fulfilled at"),
        cancelled_at=cancelled_at,
        lines_count=0,
    )


def line_of(order: int, position: int, cells: LineCells, exponent: int) -> StagedLine | None:
    """Return a line of the order at line `order`, or None where the row has none. Raises `BadCell`."""
    title = line(cells.lineitem_name)
    if title is None:
        if any(map(str.strip, cells[:4])):
            raise BadCell("Lineitem name is empty")
        return None
    return StagedLine(
        order_line=order,
        position=position,
        sku=bare(cells.lineitem_sku),
        title=title,
        quantity=whole(cells.lineitem_quantity, "Lineitem quantity"),
        price_minor=money(cells.lineitem_price, exponent, "Lineitem price"),
        discount_minor=money(cells.lineitem_discount, exponent, "Lineitem discount"),
        fulfillment_status=fulfillment_status(cells.lineitem_fulfillment_status, "Lineitem fulfillment status"),
    )


def _split(name: str) -> tuple[str | None, str | None]:
    """Return a first and a last name: the export has them in one, the customer apart."""
    first, _, last = (line(name) or "").partition(" ")
    return first or None, last or None


def _address(
    name: str,
    company: str,
    address1: str,
    address2: str,
    city: str,
    postal_code: str,
    province_code: str,
    province: str,
    country: str,
    phone: str,
) -> Json | None:
    parts = {
        "name": line(name),
        "company": line(company),
        "address1": line(address1),
        "address2": line(address2),
        "city": line(city),
        "province": line(province) or line(province_code),
        "zip": bare(postal_code),
        "country_code" if len(country) == 2 else "country": line(country),
        "phone": bare(phone),
    }
    known = {part: text for part, text in parts.items() if text}
    return Json(orjson.dumps(known).decode()) if known else None
