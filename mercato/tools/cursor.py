"""Cursor: where a list goes on, as an opaque text that is checked when it comes back.

It holds the sort keys of the last row that was shown (a keyset, so that rows which come and go between two pages
neither repeat nor hide others), and what it is good for: the list and its order.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from types import GenericAlias, UnionType
from typing import Annotated, Any, NoReturn, Union, get_args

import orjson
from pydantic import AfterValidator, AwareDatetime, Field, TypeAdapter

from mercato.tools.errors import ToolError

Key = str | int | float | bool | datetime | None

# What PostgreSQL takes, and no more: a cursor that was made up must not become an error of the database.
_CHECKED: dict[Any, Any] = {
    int: Annotated[int, Field(ge=-(2**63), lt=2**63)],
    str: Annotated[str, Field(pattern=r"^[^\x00]*$")],
    datetime: Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))],
}


def encode_cursor(keys: Sequence[Key], purpose: str) -> str:
    """Return the cursor after the row with these sort keys. `purpose` names the list and its order: `orders:newest`."""
    return base64.urlsafe_b64encode(orjson.dumps([purpose, *keys])).rstrip(b"=").decode()


def decode_cursor(cursor: str, purpose: str, types: Sequence[Any]) -> tuple[Any, ...]:
    """Return the keys, of these types, such as `(datetime | None, int)`. Raises `ToolError`."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, *keys = _adapter(tuple(types)).validate_json(text, strict=True)
    except (ValueError, OverflowError):  # pydantic's and binascii's errors are ValueErrors
        _refuse()
    if made_for != purpose:
        _refuse()
    return tuple(keys)


@cache
def _adapter(types: tuple[Any, ...]) -> TypeAdapter[Any]:
    made: Any = GenericAlias(tuple, (str, *(_checked(kind) for kind in types)))
    return TypeAdapter(made)


def _checked(kind: Any) -> Any:
    if isinstance(kind, UnionType):
        return Union[tuple(_checked(choice) for choice in get_args(kind))]  # noqa: UP007  # made at run time
    return _CHECKED.get(kind, kind)


def _refuse() -> NoReturn:
    raise ToolError(
        "`cursor` is no `next_cursor` of this list in this order.",
        field="cursor",
        next_step="Start again without it.",
    ) from None
