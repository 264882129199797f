"""Directory: who a credential speaks for and what its tenant has on, kept in memory and dropped when it changes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from mercato.plugins.catalog import Catalog, Visible
from mercato.server.auth.credentials import Credential
from mercato.server.changes import Change, ChangeBus
from mercato.server.oauth.tokens import AccessTokens
from mercato.server.site import MCP_PATH, Site
from mercato.tenancy.access import Access, load_access
from mercato.tenancy.client_grants import authenticate_grant
from mercato.tenancy.database import Database
from mercato.tenancy.keys import PREFIX, authenticate_key
from mercato.tenancy.limits import STANDARD, Limits
from mercato.tenancy.memberships import memberships_of, shown_first
from mercato.tenancy.principal import Principal
from mercato.tenancy.reach import EVERYTHING, Reach
from mercato.tenancy.rows import utc_now
from mercato.tenancy.sessions import find_session, session_principal

LONGEST_AGE_S = 30
"""How old an answer may be where the change bus is down; a change that arrives drops it at once."""
_MOST_KEPT = 10_000

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, what their tenant has on, and what the address that they call is for."""

    principal: Principal
    access: Access
    reach: Reach = EVERYTHING
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was worked out for this caller, for as long as it is kept: by whoever needs it, under a name of theirs."""

    def sees(self, catalog: Catalog) -> Visible:
        """Return the catalogue as they see it."""
        return catalog.visible_to(self.principal, self.access, self.reach)


@dataclass(frozen=True, slots=True)
class _Known:
    """Who a credential speaks for, and the resource that it is bound to, if it is bound to one."""

    principal: Principal
    audience: str | None = None


class Directory:
    """Looks up callers. Both caches are bounded, and forget a tenant as a whole when anything of it changes."""

    def __init__(
        self,
        database: Database,
        changes: ChangeBus,
        tokens: AccessTokens,
        site: Site,
        limits: Limits = STANDARD,
    ) -> None:
        self._database = database
        self._limits = limits
        self._tokens = tokens
        self._site = site
        self._principals: _Kept[bytes, _Known] = _Kept()
        self._access: _Kept[int, Access] = _Kept()
        self._callers: _Kept[tuple[bytes, str], Caller] = _Kept()
        changes.subscribe(self._forget)

    async def caller(self, credential: Credential, path: str = MCP_PATH, reach: Reach = EVERYTHING) -> Caller | None:
        """Return who a credential speaks for at an address; None where it is not good there (any more)."""
        generation = self._callers.generation
        known = await self._known(credential)
        if known is None or (known.audience is not None and not self._site.covers(known.audience, path)):
            return None
        principal = known.principal
        if principal.expires_at is not None and principal.expires_at <= utc_now():
            return None
        access = await self.access(principal.tenant_id)
        if access is None:
            return None
        if credential.kind == "session":
            return Caller(principal, access, reach)
        key = place_of(credential.text.encode(errors="surrogatepass"))
        kept = self._callers.get((key, path))
        if kept is not None and kept.principal is principal and kept.access is access:
            return kept
        caller = Caller(principal, access, reach)
        until = min(self._principals.until(key), self._access.until(principal.tenant_id))
        self._callers.put((key, path), caller, generation, until)
        return caller

    def at_hand(self, place: bytes, path: str) -> Caller | None:
        """Return the caller of a key or token that was looked up a moment ago and is still good: at once, or None.

        `place` is the credential's `place_of`.
        """
        caller = self._callers.get((place, path))
        if caller is None:
            return None
        expires_at = caller.principal.expires_at
        return caller if expires_at is None or expires_at > utc_now() else None

    async def access(self, tenant_id: int) -> Access | None:
        """Return what a tenant has on; None where it was removed."""
        return await self._access.find(tenant_id, lambda: load_access(self._database, tenant_id, self._limits))

    async def _known(self, credential: Credential) -> _Known | None:
        if credential.kind == "session":  # people change tenants and sign out; what pages ask is not worth keeping
            return await self._by_session(credential.text)
        key = place_of(credential.text.encode(errors="surrogatepass"))
        return await self._principals.find(key, lambda: self._by_key_or_token(credential.text))

    async def _by_key_or_token(self, text: str) -> _Known | None:
        if text.startswith(PREFIX):
            principal = await authenticate_key(self._database, text)
            return None if principal is None else _Known(principal)
        claims = await self._tokens.read(text)
        if claims is None:
            return None
        principal = await authenticate_grant(self._database, claims.grant_id, claims.scopes, claims.expires_at)
        return None if principal is None else _Known(principal, claims.audience)

    async def _by_session(self, token: str) -> _Known | None:
        person = await find_session(self._database, token)
        if person is None:
            return None
        belonging = shown_first(await memberships_of(self._database, person.user_id), person.chosen_tenant_id)
        return None if belonging is None else _Known(session_principal(person, belonging))

    def _forget(self, change: Change) -> None:
        if change.kind in {"access", "catalog"}:
            self._access.forget(lambda access: change.tenant_id in {0, access.tenant.id})
            self._callers.forget(lambda caller: change.tenant_id in {0, caller.access.tenant.id})
            self._principals.forget(lambda known: change.tenant_id in {0, known.principal.tenant_id})


def place_of(credential: bytes) -> bytes:
    """Return where the caller of a credential is kept, which does not tell it.

    SHA-256 comes from OpenSSL, and begins more slowly.
    """
    return hashlib.blake2b(credential).digest()


class _Kept(Generic[Key, Value]):
    """A bounded map whose entries age. What was read before the last change is not kept: it may be the old state."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._looking: dict[Key, asyncio.Task[Value | None]] = {}
        self.generation = 0

    def get(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    async def find(self, key: Key, look_up: Callable[[], Coroutine[Any, Any, Value | None]]) -> Value | None:
        """Return what is kept, or look it up and keep it: once, however many ask for it at the same time."""
        kept = self.get(key)
        if kept is not None:
            return kept
        looking = self._looking.get(key)
        if looking is None:
            looking = self._looking[key] = asyncio.create_task(self._found(key, look_up, self.generation))
            looking.add_done_callback(partial(self._looked, key))
        return await asyncio.shield(looking)

    async def _found(
        self, key: Key, look_up: Callable[[], Coroutine[Any, Any, Value | None]], generation: int
    ) -> Value | None:
        value = await look_up()
        if value is not None:
            self.put(key, value, generation)
        return value

    def _looked(self, key: Key, looking: asyncio.Task[Value | None]) -> None:
        if self._looking.get(key) is looking:
            del self._looking[key]
        if not looking.cancelled():
            looking.exception()  # whoever asked may be gone

    def until(self, key: Key) -> float:
        """Return until when an entry is kept; a time that is past where there is none."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else entry[0]

    def put(self, key: Key, value: Value, generation: int, until: float | None = None) -> None:
        if generation != self.generation:
            return
        self._entries[key] = (time.monotonic() + LONGEST_AGE_S if until is None else until, value)
        self._entries.move_to_end(key)
        if len(self._entries) > _MOST_KEPT:
            self._entries.popitem(last=False)

    def forget(self, matches: Callable[[Value], bool]) -> None:
        self.generation += 1
        self._looking.clear()  # whoever asks from now on must not get the old state
        for key in [key for key, (_, value) in self._entries.items() if matches(value)]:
            del self._entries[key]
