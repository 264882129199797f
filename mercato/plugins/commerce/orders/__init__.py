"""Orders: found, read, moved from status to status, cancelled."""

from __future__ import annotations

from mercato.plugins.commerce.orders import cancellation, listing, order, status

__all__ = ["cancellation", "listing", "order", "status"]
