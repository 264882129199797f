"""The category that all tools of this plugin belong to."""

from __future__ import annotations

from mercato import Category

commerce = Category("commerce", "Orders, customers, products and stock.")
