"""Secrets at rest: AES-256-GCM under a ring of keys, each secret bound to the place where it is stored."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mercato.tenancy.errors import InvalidValue

Place = tuple[int, str, str, int]
"""Tenant id, table, column, row id: the associated data, so that a sealed value is useless anywhere else."""

_VERSION = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
KEY_BYTES = 32


class KeyRing:
    """The keys of a deployment: the first seals, all of them open. Rotate by putting a new one first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise InvalidValue("There is no secret key: set MERCATO_SECRET_KEYS.")
        if any(len(key) != KEY_BYTES for key in keys):
            raise InvalidValue(f"A secret key must be {KEY_BYTES} bytes, in base64.")
        self._keys = list(keys)
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._first = _key_id(keys[0])

    @classmethod
    def from_text(cls, text: str) -> KeyRing:
        """Read keys in base64, separated by commas. Raises `InvalidValue`."""
        try:
            return cls([base64.b64decode(part.strip(), validate=True) for part in text.split(",") if part.strip()])
        except ValueError:
            raise InvalidValue("MERCATO_SECRET_KEYS must be keys in base64, separated by commas.") from None

    def seal(self, secret: bytes, place: Place) -> bytes:
        """Encrypt a secret for the place where it will be stored."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, secret, _associated(place))
        return _VERSION + self._first + nonce + sealed

    def open(self, sealed: bytes, place: Place) -> bytes:
        """Decrypt a secret. Raises `InvalidValue` where the key is gone or the value was moved or changed."""
        key_id = sealed[1 : 1 + _KEY_ID_BYTES]
        rest = sealed[1 + _KEY_ID_BYTES :]
        cipher = self._ciphers.get(key_id)
        if sealed[:1] != _VERSION or cipher is None:
            raise InvalidValue("A stored secret was sealed with a key that is not in MERCATO_SECRET_KEYS.")
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _associated(place))
        except InvalidTag:
            raise InvalidValue("A stored secret was changed or moved, and cannot be read.") from None

    def derive(self, purpose: str) -> list[bytes]:
        """Return 32-byte keys for another purpose, in the ring's order (HKDF-SHA256, RFC 5869)."""
        return [HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(key) for key in self._keys]


def new_key() -> str:
    """Return a fresh key, in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"mercato key id" + key).digest()[:_KEY_ID_BYTES]


def _associated(place: Place) -> bytes:
    return "\x1f".join(map(str, place)).encode()
