"""Text written by strangers, such as the note of an order: data to report, never instructions to follow.

Cleaned here and nowhere else, of what a person cannot see but a model reads: control characters, zero-width and
bidirectional marks, tags and other invisible letters. An answer says in the field's name that it is such a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

LONGEST_NOTE = 1_000
LONGEST_LINE = 200
_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_MANY_BREAKS = re.compile(r"\n{3,}")
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn"}
_INVISIBLE = {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0", "\u2800"} | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0D), (0xE0100, 0xE01EF))  # variation selectors carry bytes
    for code in range(first, last + 1)
}


def clean(text: str, longest: int = LONGEST_NOTE) -> str:
    """Return the text as a person sees it, cut at `longest` characters; what was cut shows as an ellipsis."""
    seen = "".join(filter(_is_visible, _BREAKS.sub("\n", text))).strip()
    seen = _MANY_BREAKS.sub("\n\n", seen)
    return seen if len(seen) <= longest else seen[: longest - 1].rstrip() + "…"


def clean_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Return the text cleaned, on one line."""
    return " ".join(clean(text, longest * 2).split())[:longest]


def _is_visible(character: str) -> bool:
    if character in "\n\t":
        return True
    return unicodedata.category(character) not in _INVISIBLE_CATEGORIES and character not in _INVISIBLE


def _note(value: Any) -> Any:
    return clean(value) if isinstance(value, str) else value


def _line(value: Any) -> Any:
    return clean_line(value) if isinstance(value, str) else value


UntrustedText = Annotated[str, BeforeValidator(_note)]
"""A longer text by a stranger; its field's name ends in `_untrusted`."""
UntrustedLine = Annotated[str, BeforeValidator(_line)]
"""A short one, such as a name."""


class UntrustedAddress(BaseModel):
    """A postal address as it was typed in."""

    name: UntrustedLine | None = None
    company: UntrustedLine | None = None
    address1: UntrustedLine | None = None
    address2: UntrustedLine | None = None
    city: UntrustedLine | None = None
    province: UntrustedLine | None = None
    zip: UntrustedLine | None = None
    country: UntrustedLine | None = None
    country_code: UntrustedLine | None = None
    phone: UntrustedLine | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> UntrustedAddress | None:
        """Return the stored address; None where there is none."""
        if not stored:
            return None
        known = {key: str(stored[key]) for key in cls.model_fields if stored.get(key) not in (None, "")}
        if "name" not in known:
            known["name"] = " ".join(str(stored[key]) for key in ("first_name", "last_name") if stored.get(key))
        return cls(**known)
