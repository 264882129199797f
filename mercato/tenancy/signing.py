"""Signed texts: what leaves in a link or a form and must come back as it was."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from mercato.tenancy.secrets import KeyRing

_MAC_BYTES = 32


class Signer:
    """Signs for one purpose (HMAC-SHA256 under keys derived for it), so that no text serves another."""

    def __init__(self, ring: KeyRing, purpose: str) -> None:
        self._keys = ring.derive(f"signed: {purpose}")

    def sign(self, payload: bytes) -> str:
        """Return the payload with its signature, as a text that a URL can hold. It is readable, not secret."""
        return _text_of(payload + self._mac(self._keys[0], payload))

    def verify(self, text: str) -> bytes | None:
        """Return the payload; None where the text was not signed here, for this purpose."""
        signed = _bytes_of(text)
        if signed is None or len(signed) < _MAC_BYTES:
            return None
        payload, mac = signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
        good = [hmac.compare_digest(mac, self._mac(key, payload)) for key in self._keys]
        return payload if any(good) else None

    def _mac(self, key: bytes, payload: bytes) -> bytes:
        return hmac.digest(key, payload, hashlib.sha256)


def digest(text: str) -> bytes:
    """Return what is stored of a random token: its SHA-256. A fast hash is enough where there is nothing to guess."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes_of(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _text_of(data) == text else None  # one spelling only
