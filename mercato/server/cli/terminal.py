"""What the commands say: results on stdout for a person or a program, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 200


def say(text: str = "") -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write a line to stderr: what a person should know, but no program reads."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Write one line of JSON to stdout."""
    say(json.dumps(value, default=_plain, ensure_ascii=False))


def table_of(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str | None = None) -> Table:
    """Return a table to be shown."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(_plain(cell)) for cell in row))
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
