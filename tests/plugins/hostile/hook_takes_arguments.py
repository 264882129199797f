from __future__ import annotations

from mercato import hookimpl


@hookimpl
def register_categories(server):
    return []
