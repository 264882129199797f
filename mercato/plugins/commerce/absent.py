"""The answer where there is nothing by that id."""

from __future__ import annotations

from typing import Literal

from mercato import ToolError

_FOUND_BY = {"order": "search_orders", "customer": "search_customers", "product": "list_products"}


def no_such(noun: Literal["order", "customer", "product"], id: int) -> ToolError:  # noqa: A002  # what it is called
    """Return the error, which says how to find the right id."""
    return ToolError(
        f"There is no {noun} {id}.", field=f"{noun}_id", next_step=f"Find its id with `{_FOUND_BY[noun]}`."
    )
