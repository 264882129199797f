"""Inventory: stock read and changed."""

from __future__ import annotations

from mercato.plugins.commerce.inventory import levels, update

__all__ = ["levels", "update"]
