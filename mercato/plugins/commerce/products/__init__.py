"""Products: found, read, edited."""

from __future__ import annotations

from mercato.plugins.commerce.products import edit, listing, product

__all__ = ["edit", "listing", "product"]
