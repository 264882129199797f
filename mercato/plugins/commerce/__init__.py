"""Commerce: the orders, customers, products and stock of a tenant, and the tools that read and change them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mercato import Category, Event, Importer, Job, PluginSettings, hookimpl
from mercato.plugins.commerce import customers, inventory, orders, products, prompts
from mercato.plugins.commerce.category import commerce
from mercato.plugins.commerce.events import EVENTS, StockRanLow, stock_ran_low
from mercato.plugins.commerce.importers import IMPORTERS
from mercato.plugins.commerce.jobs import JOBS
from mercato.plugins.commerce.settings import CommerceSettings

__all__ = ["StockRanLow", "customers", "inventory", "orders", "products", "prompts", "stock_ran_low"]


@hookimpl
def register_categories() -> list[Category]:
    """Return the category `commerce`."""
    return [commerce]


@hookimpl
def register_jobs() -> tuple[Job[..., Any], ...]:
    """Return what runs in the background."""
    return JOBS


@hookimpl
def register_events() -> tuple[Event[Any], ...]:
    """Return what others may be told of."""
    return EVENTS


@hookimpl
def register_migrations() -> Path:
    """Return the versions of the schema `commerce`."""
    return Path(__file__).parent / "migrations"


@hookimpl
def register_settings() -> PluginSettings:
    """Return what a tenant may set."""
    return PluginSettings(tenant=CommerceSettings)


@hookimpl
def register_importers() -> tuple[Importer, ...]:
    """Return the import of a shop's CSV files, and the demonstration store."""
    return IMPORTERS
