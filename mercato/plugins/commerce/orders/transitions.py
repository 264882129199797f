"""The steps an order may take, as data.

    pending ─► confirmed ─► processing ─► shipped ─► delivered ─► refunded
    pending ─► processing      shipped ─► refunded
    pending, confirmed, processing ─► cancelled

What is on its way cannot be cancelled any more. It can be refunded from `shipped` too: a parcel that was lost, or that
comes back, was never delivered. Cancelled and refunded are final.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from mercato import ToolError
from mercato.plugins.commerce.params import OrderStatus

NEXT: Mapping[str, tuple[OrderStatus, ...]] = {
    "pending": ("confirmed", "processing", "cancelled"),
    "confirmed": ("processing", "cancelled"),
    "processing": ("shipped", "cancelled"),
    "shipped": ("delivered", "refunded"),
    "delivered": ("refunded",),
    "cancelled": (),
    "refunded": (),
}


def check_step(number: str, present: str, wanted: OrderStatus, besides: Container[str] = ()) -> None:
    """Pass if the order may go there from here. Raises `ToolError` with the steps it may take, but for some."""
    allowed = NEXT[present]
    if wanted in allowed:
        return
    if not allowed:
        raise ToolError(f"Order {number} is {present}, which is final: it cannot become {wanted}.", field="status")
    steps = [step for step in allowed if step not in besides]
    raise ToolError(f"Order {number} is {present}; it cannot become {wanted}.", field="status", allowed=steps)
