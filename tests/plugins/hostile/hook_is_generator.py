from __future__ import annotations

from mercato import Category, hookimpl


@hookimpl
def register_categories():
    yield Category("lazy", "Yielded.")
