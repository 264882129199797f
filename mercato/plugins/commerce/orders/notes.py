"""Staff notes: what happened to an order, line by line, each with its time."""

from __future__ import annotations

from datetime import datetime

from mercato.plugins.commerce.models import Order
from mercato.plugins.commerce.untrusted import clean_line


def note_step(order: Order, wanted: str, text: str, at: datetime) -> None:
    """Append a line to the order's notes: when, from which status to which, and why."""
    line = f"[{at:%Y-%m-%dT%H:%M:%SZ}] {order.status} -> {wanted}: {clean_line(text, 500)}"
    order.staff_notes = f"{order.staff_notes}\n{line}" if order.staff_notes else line
