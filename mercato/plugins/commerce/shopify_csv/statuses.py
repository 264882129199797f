"""Statuses: Shopify's words -> ours. An order's own status is derived, for Shopify has none:

cancelled   it has a time of cancellation
refunded    all of it was paid back
shipped     all of it is fulfilled (whether it was delivered, the export does not say)
processing  part of it is fulfilled
confirmed   it is paid, or was paid and partly paid back
pending     otherwise
"""

from __future__ import annotations

from datetime import datetime

from mercato.plugins.commerce.shopify_csv.cells import BadCell, shown

_FINANCIAL = {
    "": "pending",
    "pending": "pending",
    "authorized": "authorized",
    "paid": "paid",
    "partially_paid": "partially_paid",
    "partially_refunded": "partially_refunded",
    "refunded": "refunded",
    "voided": "voided",
    "expired": "voided",
}
_FULFILLMENT = {
    "": "unfulfilled",
    "unfulfilled": "unfulfilled",
    "pending": "unfulfilled",
    "open": "unfulfilled",
    "scheduled": "unfulfilled",
    "on_hold": "unfulfilled",
    "in_progress": "unfulfilled",
    "restocked": "unfulfilled",
    "partial": "partial",
    "partially_fulfilled": "partial",
    "fulfilled": "fulfilled",
}


def financial_status(text: str) -> str:
    """Return our word for a Financial Status."""
    return _mapped(text, _FINANCIAL, "Financial Status")


def fulfillment_status(text: str, column: str = "Fulfillment Status") -> str:
    """Return our word for the fulfilment of an order or of a line of it."""
    return _mapped(text, _FULFILLMENT, column)


def order_status(financial: str, fulfillment: str, cancelled_at: datetime | None) -> str:
    """Return an order's status, from our words for its payment and fulfilment."""
    if cancelled_at is not None:
        return "cancelled"
    if financial == "refunded":
        return "refunded"
    if fulfillment == "fulfilled":
        return "shipped"
    if fulfillment == "partial":
        return "processing"
    return "confirmed" if financial in {"paid", "partially_refunded"} else "pending"


def _mapped(text: str, words: dict[str, str], column: str) -> str:
    word = words.get(text)
    if word is None:
        word = words.get(text.strip().lower().replace(" ", "_"))
    if word is None:
        raise BadCell(f"{column} {shown(text)} is unknown: {', '.join(filter(None, words))}")
    return word
