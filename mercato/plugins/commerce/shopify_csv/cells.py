"""What one cell of an export says: money, times, ids, yes and no. A cell that cannot be understood raises `BadCell`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

LINE_MAX = 255
NOTE_MAX = 5_000
DESCRIPTION_MAX = 50_000
TAGS_MAX = 250

_DECIMAL = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,30}))?")
_WHOLE = re.compile(r"-?[0-9]{1,12}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_MINOR_MAX = 10**17  # a sum of many stays within a bigint
_WHOLE_MAX = 2**31 - 1
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False, "": False}


class BadCell(ValueError):
    """A cell that cannot be understood; the text is the reason that a person reads."""


def currency_code(text: str, column: str) -> str:
    """Return a currency code in capitals."""
    code = text.strip().upper()
    if not _CURRENCY.fullmatch(code):
        raise BadCell(f"{column} {shown(text)} is no currency code")
    return code


@lru_cache(maxsize=8192)  # the same few prices and zeros make up most of a file
def money(text: str, exponent: int, column: str) -> int:
    """Return an amount in minor units, exactly; nothing is nought. Decimals beyond the currency's must be zeros."""
    trimmed = text.strip()
    if not trimmed:
        return 0
    match = _DECIMAL.fullmatch(trimmed)
    if not match:
        raise BadCell(f"{column} {shown(text)} is no amount such as 12.50")
    decimals = match[2] or ""
    if decimals[exponent:].strip("0"):
        raise BadCell(f"{column} {shown(text)} has more than the {exponent} decimals of its currency")
    minor = int(match[1] + decimals[:exponent].ljust(exponent, "0"))
    if minor > _MINOR_MAX:
        raise BadCell(f"{column} {shown(text)} is too large")
    return minor


def optional_money(text: str, exponent: int, column: str) -> int | None:
    """Return an amount in minor units, or None for an empty cell."""
    return money(text, exponent, column) if text.strip() else None


@lru_cache(maxsize=1024)
def whole(text: str, column: str, *, lowest: int = 0) -> int:
    """Return a whole number."""
    trimmed = text.strip()
    if not _WHOLE.fullmatch(trimmed) or not lowest <= int(trimmed) <= _WHOLE_MAX:
        raise BadCell(f"{column} {shown(text)} is no whole number{'' if lowest < 0 else f' from {lowest}'}")
    return int(trimmed)


@lru_cache(maxsize=1024)  # an order's own times repeat
def moment(text: str, column: str) -> datetime:
    """Return the UTC time of a cell such as `2024-05-03 12:31:44 -0400`."""
    trimmed = text.strip()
    # Python reads the form of the export but for the space before the offset.
    joined = trimmed[:19] + trimmed[20:] if trimmed[19:20] == " " else trimmed
    try:
        parsed = datetime.fromisoformat(joined.removesuffix("UTC") + "Z" if joined.endswith("UTC") else joined)
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadCell(f"{column} {shown(text)} is no time such as 2024-05-03 12:31:44 -0400")


def optional_moment(text: str, column: str) -> datetime | None:
    """Return a UTC time, or None for an empty cell."""
    return moment(text, column) if text and not text.isspace() else None


def boolean(text: str, column: str) -> bool:
    """Return what yes or no, true or false says; nothing is no."""
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise BadCell(f"{column} {shown(text)} is neither yes nor no") from None


def line(text: str, longest: int = LINE_MAX) -> str | None:
    """Return a text of one line, or None when there is none."""
    if not text:
        return None
    if not text.isprintable():
        text = " ".join(text.split())
    return text.strip()[:longest].rstrip() or None


def note(text: str, longest: int = NOTE_MAX) -> str | None:
    """Return a text of any number of lines, or None when there is none."""
    if not text:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()[:longest].rstrip() or None


def bare(text: str, longest: int = LINE_MAX) -> str | None:
    """Return an id, a phone number, a postal code without the quote that keeps spreadsheets from counting with it."""
    return line(text.strip().lstrip("'"), longest) if text else None


def email(text: str) -> str | None:
    """Return an e-mail address in lower case, in which addresses are kept and compared; None for what is none."""
    address = text.strip().lower()
    return address if "@" in address and len(address) <= 254 and not any(map(str.isspace, address)) else None


def names(text: str) -> list[str]:
    """Return the parts of a list such as tags or discount codes, each once."""
    if not text:
        return []
    parts = (line(part) for part in text.split(","))
    return list(dict.fromkeys(part for part in parts if part))[:TAGS_MAX]


def shown(text: str) -> str:
    """Return a cell as a reason quotes it."""
    cut = text if len(text) <= 40 else f"{text[:40]}…"
    return repr(cut) if cut.strip() else "(empty)"
