"""Directory: who a credential speaks for and what its tenant has on, kept in memory and dropped when it changes."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mercato.server.changes import Change, ChangeBus
from mercato.tenancy.access import Access, load_access
from mercato.tenancy.database import Database
from mercato.tenancy.keys import authenticate_key
from mercato.tenancy.principal import Principal
from mercato.tenancy.rows import utc_now

LONGEST_AGE_S = 30
"""How old an answer may be where the change bus is down; a change that arrives drops it at once."""
_MOST_KEPT = 10_000

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, and what their tenant has on."""

    principal: Principal
    access: Access


class Directory:
    """Looks up callers. Both caches are bounded, and forget a tenant as a whole when anything of it changes."""

    def __init__(self, database: Database, changes: ChangeBus) -> None:
        self._database = database
        self._principals: _Kept[bytes, Principal] = _Kept()
        self._access: _Kept[int, Access] = _Kept()
        changes.subscribe(self._forget)

    async def caller(self, credential: str) -> Caller | None:
        """Return who an API key speaks for; None where it is not good (any more)."""
        digest = hashlib.sha256(credential.encode()).digest()
        principal = self._principals.get(digest)
        if principal is None:
            generation = self._principals.generation
            principal = await authenticate_key(self._database, credential)
            if principal is None:
                return None
            self._principals.put(digest, principal, generation)
        if principal.expires_at is not None and principal.expires_at <= utc_now():
            return None
        access = await self.access(principal.tenant_id)
        return None if access is None else Caller(principal, access)

    async def access(self, tenant_id: int) -> Access | None:
        """Return what a tenant has on; None where it was removed."""
        access = self._access.get(tenant_id)
        if access is None:
            generation = self._access.generation
            access = await load_access(self._database, tenant_id)
            if access is not None:
                self._access.put(tenant_id, access, generation)
        return access

    def _forget(self, change: Change) -> None:
        if change.kind != "resource":
            self._access.forget(lambda access: change.tenant_id in {0, access.tenant.id})
            self._principals.forget(lambda principal: change.tenant_id in {0, principal.tenant_id})


class _Kept(Generic[Key, Value]):
    """A bounded map whose entries age. What was read before the last change is not kept: it may be the old state."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self.generation = 0

    def get(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    def put(self, key: Key, value: Value, generation: int) -> None:
        if generation != self.generation:
            return
        self._entries[key] = (time.monotonic() + LONGEST_AGE_S, value)
        self._entries.move_to_end(key)
        if len(self._entries) > _MOST_KEPT:
            self._entries.popitem(last=False)

    def forget(self, matches: Callable[[Value], bool]) -> None:
        self.generation += 1
        for key in [key for key, (_, value) in self._entries.items() if matches(value)]:
            del self._entries[key]
