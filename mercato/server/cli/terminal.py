"""What the commands say: results on stdout for a person or a program, everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 200
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys, or what changes the direction of writing; lines and tabs may stay."""


def say(text: str = "") -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{without_controls(text)}\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write a line to stderr: what a person should know, but no program reads."""
    sys.stderr.write(f"{without_controls(text)}\n")
    sys.stderr.flush()


def without_controls(text: str) -> str:
    """Return what may be shown of a text that anybody may have written."""
    return _CONTROLS.sub("", text)


def say_json(value: Any) -> None:
    """Write one line of JSON to stdout."""
    say(json.dumps(value, default=_plain, ensure_ascii=False))


def table_of(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str | None = None) -> Table:
    """Return a table to be shown. Nothing in it is markup: much of it is what people of tenants wrote."""
    from rich.table import Table
    from rich.text import Text

    shown = Text(without_controls(title), style="table.title")
    below = None if caption is None else Text(without_controls(caption), style="table.caption")
    table = Table(title=shown, title_justify="left", caption=below, caption_justify="left")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else without_controls(str(_plain(cell)))) for cell in row))
    return table


def say_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str | None = None) -> None:
    """Write a table to stdout."""
    from rich.console import Console

    table = table_of(title, columns, rows, caption)
    shown = Console()
    if not shown.is_terminal:  # a program reads it, or a file keeps it: nothing there is as narrow as 80 columns
        shown = Console(width=_WIDE)
    shown.print(table)


def say_either(as_json: bool, value: Any, text: str) -> None:
    """Write a result as JSON or as a sentence."""
    if as_json:
        say_json(value)
    else:
        say(text)


def stop(text: str, code: int = 1) -> NoReturn:
    """End the command with a sentence on stderr."""
    tell(f"mercato: {text}")
    raise SystemExit(code)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
