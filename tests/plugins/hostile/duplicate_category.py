from __future__ import annotations

from mercato import Category, hookimpl


@hookimpl
def register_categories():
    return [Category("bystander", "Takes the name of another's category.")]
