"""Ids in the URIs of resources: read from a text, and completed."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from mercato import ToolContext
from mercato.plugins.commerce.params import MOST_ID

_ID = re.compile(r"[1-9][0-9]{0,15}")
_MOST_OFFERED = 25


def read_id(text: str) -> int:
    """Return the id. Raises `LookupError` for what is none."""
    if not _ID.fullmatch(text) or int(text) > MOST_ID:
        raise LookupError(text)
    return int(text)


async def ids_beginning_with(
    ctx: ToolContext,
    prefix: str,
    id: sa.SQLColumnExpression[int],  # noqa: A002  # what it is called
    newest_by: sa.SQLColumnExpression[Any],
) -> list[str]:
    """Return the ids of the newest rows whose id begins with these digits."""
    if prefix and not _ID.fullmatch(prefix):
        return []
    as_text = sa.cast(id, sa.Text)
    statement = sa.select(as_text).where(as_text.startswith(prefix)).order_by(newest_by.desc()).limit(_MOST_OFFERED)
    return [row[0] for row in await ctx.db.rows(statement)]
