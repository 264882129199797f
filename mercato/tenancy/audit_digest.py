"""Salted digests of what an audit entry says, so that the words can be erased while their digest stays in the chain."""

from __future__ import annotations

import hashlib
import json
import os
from decimal import Decimal
from typing import Any

_SALT_BYTES = 16
_written = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def new_salt() -> bytes:
    """Return a random salt. Once it is gone, nobody can find out by trying what a digest was made of."""
    return os.urandom(_SALT_BYTES)


def salted_digest(salt: bytes, value: dict[str, Any]) -> bytes:
    """Return the SHA-256 of a salt and a JSON object, however the object was written down."""
    return hashlib.sha256(salt + _written(_as_stored(value)).encode()).digest()


def _as_stored(value: Any) -> Any:
    """Return a value as it comes back from a `jsonb` column, where 1e16 is an integer and -0.0 has no sign."""
    if isinstance(value, dict):
        return {name: _as_stored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_stored(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))  # the digits that JSON has, and not those that binary makes of them
    return value
