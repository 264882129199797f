"""What signs the audit's chain: keys of the deployment's ring, which the database never sees."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime

from mercato.tenancy.secrets import KeyRing

Signable = int | str | bytes | datetime | None

_PURPOSE = "audit chain"
_KEY_ID_BYTES = 8
_written = json.JSONEncoder(separators=(",", ":")).encode


class AuditSigner:
    """Signs with the first key of the ring, and checks with all: a signature begins with the id of its key."""

    def __init__(self, ring: KeyRing) -> None:
        self._keys = {_key_id(key): key for key in ring.derive(_PURPOSE)}
        self._first = next(iter(self._keys))

    def sign(self, purpose: str, *fields: Signable) -> bytes:
        """Return the id of the key and an HMAC-SHA256 of the fields. What is signed for one purpose fits no other."""
        return self._first + self._code(self._first, purpose, fields)

    def fits(self, signature: bytes | None, purpose: str, *fields: Signable) -> bool:
        """Whether a signature was made of these fields, with a key that is in the ring."""
        if signature is None or not self.knows(signature):
            return False
        key_id = signature[:_KEY_ID_BYTES]
        return hmac.compare_digest(signature[_KEY_ID_BYTES:], self._code(key_id, purpose, fields))

    def knows(self, signature: bytes | None) -> bool:
        """Whether the key that a signature says it was made with is in the ring."""
        return signature is not None and signature[:_KEY_ID_BYTES] in self._keys

    def _code(self, key_id: bytes, purpose: str, fields: tuple[Signable, ...]) -> bytes:
        # JSON keeps the fields apart: no two lists of fields have the same text.
        text = _written([purpose, *map(_plain, fields)])
        return hmac.digest(self._keys[key_id], text.encode(), "sha256")


def _plain(value: Signable) -> int | str | None:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"mercato audit key id" + key).digest()[:_KEY_ID_BYTES]
