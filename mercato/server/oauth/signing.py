"""The keys that sign access tokens, as one process holds them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Any

from joserfc.jwk import KeySet, RSAKey

from mercato.tenancy.database import Database
from mercato.tenancy.rows import utc_now
from mercato.tenancy.secrets import KeyRing
from mercato.tenancy.signing_keys import StoredKey, load_signing_keys

ALGORITHM = "RS256"
"""What RFC 9068 (2.1) asks every server and resource to support."""
_KEY_BITS = 2_048
_FRESH_S, _ASKED_EVERY_S = 300, 5


class SigningKeys:
    """Loads the keys when needed, and again from time to time: another replica may have made the next one."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._lock = asyncio.Lock()
        self._stored: Sequence[StoredKey] = ()
        self._read_at = float("-inf")
        self._verifying = KeySet([])
        self._pairs: dict[str, RSAKey] = {}

    async def signing(self) -> RSAKey:
        """Return the key that signs now."""
        await self._load(_FRESH_S)
        now = utc_now()
        usable = [key for key in self._stored if key.private is not None]
        active = [key for key in usable if key.active_from <= now] or usable[-1:]  # another's clock may be ahead
        return self._pairs[active[0].kid]

    async def verifying(self, kid: str) -> KeySet | None:
        """Return the keys where one of them has this id; None where there is none. An unknown id is looked for."""
        if kid not in self._pairs:
            await self._load(_ASKED_EVERY_S)
        return self._verifying if kid in self._pairs else None

    async def public(self) -> list[dict[str, Any]]:
        """Return the public keys, also one that will sign soon."""
        await self._load(_FRESH_S)
        return [key.public for key in self._stored]

    async def _load(self, fresh_s: float) -> None:
        if time.monotonic() - self._read_at < fresh_s:
            return
        async with self._lock:
            if time.monotonic() - self._read_at < fresh_s:
                return
            self._stored = await load_signing_keys(self._database, self._ring, _make)
            self._pairs = {key.kid: RSAKey.import_key(key.private or key.public) for key in self._stored}
            self._verifying = KeySet([RSAKey.import_key(key.public) for key in self._stored])
            self._read_at = time.monotonic()


async def _make() -> tuple[str, dict[str, Any], dict[str, Any]]:
    kid = secrets.token_urlsafe(12)
    key = await asyncio.to_thread(_generate, kid)
    return kid, dict(key.as_dict(private=False)), dict(key.as_dict(private=True))


def _generate(kid: str) -> RSAKey:
    return RSAKey.generate_key(_KEY_BITS, parameters={"kid": kid, "use": "sig", "alg": ALGORITHM})
