"""The importers of this plugin."""

from __future__ import annotations

from mercato import Importer
from mercato.plugins.commerce.demo import DEMO_STORE
from mercato.plugins.commerce.shopify_csv import SHOPIFY_CSV

IMPORTERS: tuple[Importer, ...] = (SHOPIFY_CSV, DEMO_STORE)
